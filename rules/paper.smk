# Results -> a paper's tables, ours beside the published numbers.


rule paper:
    input:
        plan.paper_inputs,
    output:
        html=report(
            "results/{paper}.html",
            category="Papers",
            labels={"paper": "{paper}", "file": "tables, ours beside published"},
            caption="../report/paper.rst",
        ),
        table="results/{paper}.tsv",
        json="results/{paper}.json",
    log:
        "logs/paper/{paper}.log",
    benchmark:
        "logs/paper/{paper}.tsv"
    wildcard_constraints:
        paper="|".join(plan.papers()),
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        env=job_environment,
        key=plan.paper_key,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/paper.py" {wildcards.paper:q} {input:q}'
        " --out {output.html:q} --log {log:q}"
