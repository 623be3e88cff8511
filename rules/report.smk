# Results -> one page for people.


rule report:
    input:
        plan.wanted_results(),
    output:
        html=report(
            "results/report.html",
            category="Report",
            labels={"file": "all results on one page"},
            caption="../report/report.rst",
        ),
        table="results/summary.tsv",
    log:
        "logs/report.log",
    benchmark:
        "logs/report.tsv"
    conda:
        "../envs/base.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        env=job_environment,
        others=plan.other_results,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/report.py" {input:q} {params.others:q}'
        " --out {output.html:q} --table {output.table:q} --log {log:q}"
