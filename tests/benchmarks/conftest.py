"""What the tests of `evaluate` share."""

from argparse import ArgumentParser
from collections.abc import Callable

import pytest

from vireo import benchmarks


@pytest.fixture
def evaluate() -> Callable[..., str]:
    """`evaluate("charades", "--pred_file", …)`: a benchmark's scorer with its own flags."""

    def run(name: str, *argv: object) -> str:
        module = benchmarks.module(name)
        parser = ArgumentParser()
        module.add_arguments(parser)
        return str(module.evaluate(parser.parse_args([str(part) for part in argv])))

    return run
