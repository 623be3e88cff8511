"""The command line `vireo COMMAND`: one file per command, which imports what is heavy when it runs.

A file has `add_arguments(parser)`, `run(args) -> exit code` and `EXAMPLES`; the first line of its
docstring is its line in `vireo --help`.
"""

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType

import vireo
from vireo.commands import options
from vireo.utils import cli

# In the order of `vireo --help`.
NAMES = (
    *("predict", "show", "serve"),
    *("doctor", "report", "compare", "diff", "audit", "evaluate"),
    *("lists", "sens", "smollm2"),
)
DESCRIPTION = """\
Rebuild the published numbers of video-understanding systems, and use their models.

Results are made by the workflow (`snakemake --cores 8 results/viclip/videomme.json`); these
commands try models on your own videos, say what is missing, and look at results.
"""
EPILOG = """\
examples:
  vireo doctor viclip
  vireo predict viclip --video my.mp4 --texts "a dog runs" "a man cooks"
  vireo compare results/viclip/videomme.json results/my_viclip/videomme.json

exit codes: 0 done; 1 an error, or something that was to be checked is not right; 2 wrong usage.
"""


def module(name: str) -> ModuleType:
    """The file of a command."""
    return importlib.import_module(f"vireo.commands.{name}")


def parser() -> argparse.ArgumentParser:
    """The parser of `vireo` with all commands."""
    top = options.Parser(prog="vireo", description=DESCRIPTION, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"vireo {vireo.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in NAMES:
        command = module(name)
        text = command.__doc__ or ""
        one = commands.add_parser(
            name,
            help=text.splitlines()[0].rstrip("."),
            description=text,
            epilog=f"examples:\n{command.EXAMPLES}",
        )
        command.add_arguments(one)
        one.set_defaults(command=command, parser=one)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, also of `--help` and of wrong usage."""
    try:
        args = parser().parse_args(argv)
        return cli.call(lambda: args.command.run(args))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
