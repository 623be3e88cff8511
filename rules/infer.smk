# Frames and weights -> predictions, one job per model, split and shard.


rule infer:
    input:
        unpack(plan.infer_input),
    output:
        "cache/shards/{model}/{benchmark}/{split}/{shard}.parquet",
    log:
        "logs/infer/{model}/{benchmark}/{split}/{shard}.log",
    benchmark:
        "logs/infer/{model}/{benchmark}/{split}/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=plan.resources.infer_memory,
        runtime=plan.resources.infer_minutes,
        gpu=plan.resources.gpus,
        constraint=plan.resources.constraint,
    params:
        env=job_environment,
        key=plan.predictions_key,
        weights=lambda wildcards, input: input.get("weights", "none"),
        what=lambda wildcards: ["--split", wildcards.split, "--shard", wildcards.shard],
    shell:
        '{params.env} python "$VIREO_HOME/scripts/infer.py" {wildcards.model:q}'
        " {wildcards.benchmark:q} {params.what:q}"
        " --items {input.entries:q} --videos {input.videos:q} --weights {params.weights:q}"
        " --out {output:q} --threads {threads} --log {log:q}"


use rule infer as infer_control with:
    input:
        unpack(plan.control_input),
    output:
        "cache/shards/{model}/{benchmark}/controls.json",
    log:
        "logs/infer/{model}/{benchmark}/controls.log",
    benchmark:
        "logs/infer/{model}/{benchmark}/controls.tsv"
    params:
        env=job_environment,
        key=plan.controls_key,
        weights=lambda wildcards, input: input.get("weights", "none"),
        what=lambda wildcards: [
            *("--split", *plan.splits(wildcards)),
            *("--control", *plan.controls(wildcards)),
        ],
