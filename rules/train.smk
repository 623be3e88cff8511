# A recipe -> weights, a table of metrics and a training curve. Resumes where it stopped.


rule train:
    input:
        plan.train_input,
    output:
        weights="results/training/{recipe}/weights.safetensors",
        metrics="results/training/{recipe}/metrics.csv",
        curve=report(
            "results/training/{recipe}/curve.svg",
            category="Training",
            labels={"recipe": "{recipe}", "file": "training curve"},
            caption="../report/training.rst",
        ),
    log:
        "logs/train/{recipe}.log",
    benchmark:
        "logs/train/{recipe}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        mem_mb=plan.resources.train_memory,
        # A run that meets the limit goes on from its last step at the next attempt.
        runtime=24 * 60,
        gpu=plan.resources.gpus,
        constraint=plan.resources.constraint,
        nodes=plan.resources.nodes,
        # Its mere presence tells the SLURM plugin to leave srun to the job, which starts a process
        # group on each of several machines (vireo/training/launch.py); empty, it asks for nothing.
        mpi="",
    params:
        env=job_environment,
        limit=job_limit,
        key=plan.recipe_key,
    shell:
        '{params.env} python "$VIREO_HOME/scripts/train.py" {wildcards.recipe:q} --threads {threads}'
        " --log {log:q} {params.limit}"
