# Everything from outside comes through this one rule; the receipt says where it lies.


rule fetch:
    output:
        "data/receipts/{artifact}.json",
    log:
        "logs/fetch/{artifact}.log",
    benchmark:
        "logs/fetch/{artifact}.tsv"
    wildcard_constraints:
        artifact=rf"(?!toy_)(?!.*_mp4\.json)(?!({CUT})_clips\.json)[^/]+",
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=1000,
        runtime=24 * 60,
        fetch=1,
    params:
        key=plan.artifact_key,
    shell:
        'python "$VIREO_HOME/scripts/fetch.py" {wildcards.artifact:q} --receipt {output:q} --log {log:q}'
