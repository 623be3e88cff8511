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
include: "rules/prepare.smk"
include: "rules/frames.smk"
include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/score.smk"
include: "rules/report.smk"


# Downloads run where the command was given: compute nodes often have no network.
localrules:
    all,
    demo,
    demo_all,
    fetch,
    paper_viclip,
    paper_mmduet,


rule all:
    default_target: True
    input:
        plan.wanted_results(),
        "results/report.html",


rule demo:
    input:
        "results/toy_viclip/toy_videomme.json",
        "results/report.html",


# Everything of the toy world: zero-shot, retrieval, fine-tuned and trained models.
rule demo_all:
    input:
        rules.demo.input,
        "results/toy_viclip/toy_kinetics.json",
        "results/toy_viclip/toy_retrieval.json",
        "results/toy_viclip_ft/toy_kinetics_ft.json",


# Every row of the paper's tables; models of our recipes only with `--config train=True`.
rule paper_viclip:
    input:
        plan.paper_results("viclip"),
    message:
        plan.paper_listing("viclip")


rule paper_mmduet:
    input:
        plan.paper_results("mmduet"),
    message:
        plan.paper_listing("mmduet")
