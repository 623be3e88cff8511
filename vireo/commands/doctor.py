"""Say what a target needs that is not here, and the next command.

Files, tokens, terms, disk, memory, GPU, Java, time; with --slurm what a profile asks for and this
cluster does not give. Looks only: downloads and changes nothing.
Exit code 1 when a person has something to do first, or when two copies differ.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vireo.utils import cli
from vireo.utils.home import HOME

EXAMPLES = """\
  vireo doctor viclip                              # a paper
  vireo doctor results/viclip/videomme.json        # a result
  vireo doctor --slurm                             # the shipped profile on this cluster
  vireo doctor --compare /data/a /data/b           # two copies of a data set
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Targets, or two copies."""
    parser.add_argument(
        "target",
        nargs="*",
        metavar="TARGET",
        help="results/MODEL/BENCHMARK.json, MODEL/BENCHMARK, a paper, a recipe, an artifact, all",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="say whether two copies of a data set (folders or files) are the same",
    )
    parser.add_argument(
        "--slurm",
        nargs="?",
        metavar="PROFILE",
        const=str(HOME / "profiles/slurm"),
        help="check a SLURM profile (default: the shipped one) against the cluster of this machine",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON object")
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    if not (args.target or args.compare or args.slurm):
        args.parser.error(
            "name a target, e.g. results/viclip/videomme.json, or use --compare or --slurm"
        )
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.doctor import checks, compare, finding, needs, slurm

    code, facts, texts = 0, dict[str, Any](), []
    if args.slurm:
        found = list(slurm.check(Path(args.slurm)))
        lines = finding.lines(found) or ["  here     SLURM: the profile fits this site"]
        facts["slurm"] = {"profile": args.slurm, "findings": [asdict(one) for one in found]}
        texts.append("\n".join([args.slurm, "", *lines]))
        code |= int(any(one.kind == "problem" for one in found))
    if args.compare:
        copies = compare.compare(*args.compare)
        facts["compare"] = {"same": copies.same, **asdict(copies)}
        texts.append(compare.text(copies))
        code |= int(not copies.same)
    if args.target:
        config = configuration.load(args.config)
        facts["targets"] = []
        for target in args.target:
            report = checks.examine(config, needs.resolve(config, target))
            facts["targets"].append(_facts(report))
            texts.append(checks.text(report))
            code |= int(report.blocked)
    print(json.dumps(facts, indent=1, ensure_ascii=False) if args.json else "\n\n".join(texts))
    return code


def _facts(report: Any) -> dict[str, Any]:
    return {
        "target": report.needs.target,
        "blocked": report.blocked,
        "findings": [asdict(finding) for finding in report.findings],
        "download_bytes": report.download,
        "disk_bytes": report.disk,
        "command": report.command,
    }
