# ScanNet scans -> the small videos that SQA3D asks about; a broken scan costs itself only.


rule scans:
    input:
        unpack(plan.scans_input),
    output:
        "data/receipts/{benchmark}_mp4.json",
    log:
        "logs/scans/{benchmark}.log",
    benchmark:
        "logs/scans/{benchmark}.tsv"
    conda:
        "../envs/base.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=24 * 60,
    params:
        env=job_environment,
        key=plan.scans_key,
        scans=lambda wildcards, input: (
            f"--scans {shlex.quote(input.scans)}" if "scans" in input.keys() else ""
        ),
    shell:
        '{params.env} python "$VIREO_HOME/scripts/scans.py" {wildcards.benchmark:q} --questions {input.questions:q}'
        " {params.scans} --out data/{wildcards.benchmark:q}_mp4 --receipt {output:q}"
        " --workers {threads} --log {log:q}"
