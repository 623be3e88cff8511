# A CLIP of any origin -> its two towers as the files that ViCLIP's authors train from.


rule clip_towers:
    input:
        "data/receipts/{artifact}.json",
    output:
        vision="data/clip_towers/{artifact}/vision.pth",
        text="data/clip_towers/{artifact}/text.pth",
    log:
        "logs/clip_towers/{artifact}.log",
    benchmark:
        "logs/clip_towers/{artifact}.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        env=job_environment,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/clip_towers.py" {input:q} --vision {output.vision:q}'
        " --text {output.text:q} --log {log:q}"
