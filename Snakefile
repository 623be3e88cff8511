# Vireo: from checkpoint and video to a checked number.
# Ask for the file you want: snakemake --cores 8 results/viclip/videomme.json
from snakemake.utils import min_version

min_version("9.27")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/fetch.smk"
include: "rules/toy.smk"
include: "rules/prepare.smk"
include: "rules/frames.smk"
include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/score.smk"
include: "rules/report.smk"


localrules:
    all,
    demo,


rule all:
    default_target: True
    input:
        plan.wanted_results(),
        "results/report.html",


rule demo:
    input:
        "results/toy_viclip/toy_videomme.json",
        "results/report.html",
