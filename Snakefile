# Vireo: from checkpoint and video to a checked number.
# Ask for the file you want: snakemake --cores 8 results/viclip/videomme.json
from snakemake.utils import min_version

min_version("9.27")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/fetch.smk"
include: "rules/toy.smk"
include: "rules/scans.smk"
include: "rules/clips.smk"
include: "rules/clip_towers.smk"
include: "rules/prepare.smk"
include: "rules/frames.smk"
include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/score.smk"
include: "rules/report.smk"
include: "rules/paper.smk"


# A workflow that uses Vireo as a module and has a first rule of its own keeps it as its default.
rule all:
    default_target: workflow.default_target is None
    input:
        plan.wanted_results(),
        "results/report.html",
    localrule: True


rule demo:
    input:
        "results/toy_viclip/toy_videomme.json",
        "results/report.html",
    localrule: True


# Everything of the toy world: all five systems, beside the targets of config/published.tsv.
rule demo_all:
    input:
        rules.demo.input,
        "results/toy.html",
    localrule: True


# `paper_viclip` and its like. Models of our recipes are trained only with `--config train=True`.
for name in plan.papers():

    rule:
        name:
            f"paper_{name}"
        input:
            f"results/{name}.html",
        localrule: True
        message:
            plan.paper_listing(name)


rule papers:
    input:
        expand("results/{paper}.html", paper=[p for p in plan.papers() if p != "toy"]),
    localrule: True
