"""`snakemake demo_all`: every toy model is trained here and reaches what it should."""

import pytest

from tests import check_demo
from tests.e2e.world import Place


@pytest.mark.slow  # trains all toy models: the better part of an hour on two cores
@pytest.mark.timeout(3 * 3600)
def test_all_toy_models_reach_their_targets(tmp_path) -> None:
    Place(tmp_path, {}).make("demo_all")
    assert check_demo.problems_of_all(tmp_path / "results") == []
