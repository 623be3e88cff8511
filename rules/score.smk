# Predictions -> a result with intervals, bounds, verdict and provenance. Never infers.


rule score:
    input:
        unpack(plan.score_input),
    output:
        json=report(
            "results/{model}/{run}.json",
            category="Results",
            subcategory="{run}",
            labels={"model": "{model}", "file": "scores"},
            caption="../report/result.rst",
        ),
        predictions="results/{model}/{run}/predictions.parquet",
    log:
        "logs/score/{model}/{run}.log",
    benchmark:
        "logs/score/{model}/{run}.tsv"
    conda:
        "../envs/caption.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        env=job_environment,
        key=plan.score_key,
        controls=lambda wildcards, input: input.get("controls", "none"),
        weights=lambda wildcards, input: input.get("weights", "none"),
    shell:
        '{params.env} python "$VIREO_HOME/scripts/score.py" {wildcards.model:q} {wildcards.run:q}'
        " --items {input.entries:q} --videos {input.videos:q} --predictions {input.predictions:q}"
        " --controls {params.controls:q} --weights {params.weights:q}"
        " --out {output.json:q} --log {log:q}"
