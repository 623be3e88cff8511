"""config/published.tsv: every row belongs to a run that can be asked for, or says why not."""

import re

import pytest

from vireo import config as cfg
from vireo.results import papers, published

CONFIG = cfg.load()
ROWS = published.read(cfg.HOME / "config/published.tsv") + published.inline(CONFIG)


def test_the_tables_of_the_guides_are_whole() -> None:
    """Tables 1 and 2 of ViCLIP cell by cell (10 x 6 less the empty ones; 7 x 4), and 43.31."""
    own = {(r.table, r.model, r.benchmark, r.metric): r.value for r in ROWS if r.paper == "viclip"}
    paper_rows = {k for k in own if not k[1].endswith(("_avg", "_native"))}
    assert sum(k[0] == "Table 1" for k in paper_rows) == 54
    assert sum(k[0] == "Table 2" for k in paper_rows) == 28
    assert own["Table 1", "viclip", "k700", "avg"] == 66.38
    assert own["Table 2", "viclip_l14_200m_ft_k710_ssv2", "ssv2", "top5"] == 95.0
    assert any(r.model == "clipbert" and r.metric == "em1" and r.value == 43.31 for r in ROWS)


@pytest.mark.parametrize("paper", papers.names(CONFIG))
def test_every_row_maps_to_a_run_or_says_why_not(paper) -> None:
    config = cfg.load(over={"train": True})  # with training allowed, nothing hides behind it
    for row in papers.rows(config, paper):
        if row.result is None:
            assert row.reason, row
            continue
        model, run = row.result.split("/")
        benchmark, splits = cfg.resolve_run(config, run)
        assert benchmark == row.benchmark and splits, row
        needs = cfg.benchmark(config, benchmark)["needs"]
        assert needs in cfg.model(config, model)["fulfils"], row


def test_every_row_is_found_by_the_run_it_belongs_to() -> None:
    """What scoring will look up is what the paper's page shows."""
    for row in ROWS:
        fits = row.model in CONFIG["models"] and row.benchmark in CONFIG["benchmarks"]
        if not fits or row.value is None:
            continue
        whole = row.split in ("", "all")
        run = row.benchmark if whole or "+" in row.split else f"{row.benchmark}_{row.split}"
        benchmark, splits = cfg.resolve_run(CONFIG, run)
        found = published.find(ROWS, row.model, benchmark, splits, headline=run == benchmark)
        assert row.metric in found, row


def test_every_row_has_a_source_and_a_known_benchmark_or_a_note() -> None:
    for row in ROWS:
        assert row.source or row.note, row
        if row.model not in CONFIG["models"] or row.benchmark not in CONFIG["benchmarks"]:
            assert "only" in row.note or "no " in row.note, row
        if row.from_memory:
            assert row.source, row


def test_no_number_stands_twice() -> None:
    keys = [(r.model, r.benchmark, r.metric, r.split, r.copy, r.protocol, r.table) for r in ROWS]
    assert len(keys) == len(set(keys))


METRICS = {
    "kinetics": r"top1|top5|avg",
    "actions": r"top1|top5",
    "retrieval": r"[tv]2[tv]_(r1|r5|r10|mean_rank|median_rank)",
    "sqa3d": r"em1(_(what|is|how|can|which|others))?",
    "youcook2": r"SODA_c|CIDEr|METEOR|F1(_words)?",
    "magqa": r"in_span",
    "charades": r"R@0\.[357]",
    "qvhighlights": r"mAP|HIT@1",
    "videomme": r"accuracy(_all)?",
}


def test_metrics_are_spelled_as_the_benchmark_gives_them() -> None:
    """A misspelt metric would silently never be compared."""
    for row in ROWS:
        if row.benchmark in CONFIG["benchmarks"]:
            name = CONFIG["benchmarks"][row.benchmark].get("module") or row.benchmark
            assert re.fullmatch(METRICS.get(name, r"[\w@.]+"), row.metric), row
