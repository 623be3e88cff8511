# Annotations -> items; a folder of videos -> an inventory of what is there.


rule prepare:
    input:
        lambda wildcards: list(plan.source_receipts(wildcards).values()),
    output:
        entries="cache/items/{benchmark}.parquet",
        videos="cache/items/{benchmark}.videos.parquet",
    log:
        "logs/prepare/{benchmark}.log",
    benchmark:
        "logs/prepare/{benchmark}.tsv"
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        env=job_environment,
        tree=plan.tree_key,
        key=plan.items_key,
        sources=plan.source_arguments,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/prepare.py" {wildcards.benchmark:q} --sources {params.sources:q}'
        " --items {output.entries:q} --videos {output.videos:q} --log {log:q}"
