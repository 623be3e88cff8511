# Videos -> the chosen frames, kept without loss under cache/frames. No torch in this stage.


rule frames:
    input:
        entries="cache/items/{benchmark}.parquet",
        videos="cache/items/{benchmark}.videos.parquet",
    output:
        "cache/shards/{model}/{benchmark}/{split}/{shard}.frames.json",
    log:
        "logs/frames/{model}/{benchmark}/{split}/{shard}.log",
    benchmark:
        "logs/frames/{model}/{benchmark}/{split}/{shard}.tsv"
    conda:
        "../envs/base.yaml"
    threads: 8
    resources:
        mem_mb=plan.resources.frames_memory,
        runtime=plan.resources.frames_minutes,
    params:
        env=job_environment,
        key=plan.frames_key,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/frames.py" {wildcards.model:q} {wildcards.benchmark:q}'
        " --split {wildcards.split:q} --shard {wildcards.shard} --items {input.entries:q}"
        " --videos {input.videos:q} --out {output:q} --workers {threads} --log {log:q}"
