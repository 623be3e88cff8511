# Everything from outside comes through this one rule; the receipt says where it lies.


# Downloads run where the command was given: compute nodes often have no network.
rule fetch:
    output:
        "data/receipts/{artifact}.json",
    log:
        "logs/fetch/{artifact}.log",
    benchmark:
        "logs/fetch/{artifact}.tsv"
    wildcard_constraints:
        artifact=rf"(?!toy_)(?!.*_mp4\.json)(?!({CUT})_clips\.json)[^/]+",
    localrule: True
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=1000,
        runtime=24 * 60,
        fetch=1,
    params:
        env=job_environment,
        key=plan.artifact_key,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/fetch.py" {wildcards.artifact:q} --receipt {output:q} --log {log:q}'
