# A list of clips (InternVid's columns) and a folder of source videos -> clips to train on.


rule clips:
    input:
        entries="data/receipts/{corpus}_list.json",
        videos="data/receipts/{corpus}_videos.json",
    output:
        "data/receipts/{corpus}_clips.json",
    log:
        "logs/clips/{corpus}.log",
    benchmark:
        "logs/clips/{corpus}.tsv"
    wildcard_constraints:
        corpus=CUT,
    conda:
        "../envs/base.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=72 * 60,
    params:
        env=job_environment,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/clips.py" {wildcards.corpus:q} --list {input.entries:q}'
        " --videos {input.videos:q} --out data/{wildcards.corpus:q}_clips --receipt {output:q}"
        " --workers {threads} --log {log:q}"
