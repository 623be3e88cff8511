# The toy world: the same kinds of files as the real data, made here in under a minute.


rule toy:
    output:
        "data/receipts/{artifact}.json",
    log:
        "logs/toy/{artifact}.log",
    benchmark:
        "logs/toy/{artifact}.tsv"
    wildcard_constraints:
        artifact=r"toy_(?!.*_mp4\.json)[^/]+",
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=30,
    params:
        env=job_environment,
        version=1,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/toy.py" {wildcards.artifact:q} --out data/{wildcards.artifact:q}'
        " --receipt {output:q} --log {log:q}"
