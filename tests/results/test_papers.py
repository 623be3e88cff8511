"""Papers as lists of rows: what can be run, what cannot, and that nothing trains unasked."""

import pytest

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.results import papers, published


def test_viclip_has_every_row_of_both_tables() -> None:
    config = cfg.load()
    rows = papers.rows(config, "viclip")
    by_table = {
        t: {(r.model, r.benchmark) for r in rows if r.table == t} for t in ("Table 1", "Table 2")
    }
    methods = {"clip_l14", "clip_l14_datacomp", "eva_clip_l", "eva_clip_e", "viclip_b16"}
    methods |= {"viclip_b16_200m", "viclip_l14_webvid", "viclip_l14_div", "viclip"}
    methods |= {"viclip_l14_200m"}
    for method in methods:
        assert {(method, b) for b in ("k400", "k600", "k700")} <= by_table["Table 1"]
    assert len(by_table["Table 2"]) == 14
    values = {(r.model, r.benchmark): dict(r.numbers) for r in rows}
    assert values["viclip", "k700"] == {"top1": 54.30, "avg": 66.38}
    assert values["eva_clip_e", "k400"] == {"avg": 69.80}
    assert values["viclip_l14_200m_ft_k710_ssv2", "ssv2"] == {"top1": 74.2, "top5": 95.0}


def test_rows_without_weights_are_listed_and_not_run() -> None:
    text = papers.listing(cfg.load(), "viclip")
    assert "Table 1  eva_clip_l x k400: avg 65 -> not run: published only" in text
    assert "clip_l14_ft_k400 x k400_ft: top1 86.7, top5 97.2 -> not run: no weights" in text
    assert "`--config train=True` trains it" in text
    assert "viclip x k400: top1 64.8, avg 75.7 -> results/viclip/k400.json" in text


def test_nothing_is_trained_unasked(tmp_path) -> None:
    over = {
        "models": {"eva_clip_l": {**cfg.load()["models"]["toy_viclip"], "published": []}},
    }
    config = cfg.load(over=over)
    row = next(r for r in papers.rows(config, "viclip", tmp_path) if r.model == "eva_clip_l")
    assert row.result is None and "train=True" in row.reason
    config = cfg.load(over={**over, "train": True})
    row = next(r for r in papers.rows(config, "viclip", tmp_path) if r.model == "eva_clip_l")
    assert row.result == "eva_clip_l/k400"
    (tmp_path / "toy_viclip_pretrain").mkdir()
    (tmp_path / "toy_viclip_pretrain/weights.safetensors").touch()
    config = cfg.load(over=over)
    row = next(r for r in papers.rows(config, "viclip", tmp_path) if r.model == "eva_clip_l")
    assert row.result == "eva_clip_l/k400"


def test_every_runnable_row_fits_its_model() -> None:
    config = cfg.load()
    for paper in {row.paper for row in published.read(cfg.HOME / "config/published.tsv")} - {""}:
        for row in papers.rows(config, paper):
            if row.result:
                needs = config["benchmarks"][row.benchmark]["needs"]
                assert needs in config["models"][row.model]["fulfils"], row


def test_an_unknown_paper() -> None:
    with pytest.raises(VireoError, match="unknown paper 'vicilp'; did you mean 'viclip'"):
        papers.rows(cfg.load(), "vicilp")


def test_videomamba_has_every_row_of_the_zoo() -> None:
    config = cfg.load()
    rows = papers.rows(config, "videomamba")
    count: dict[str, int] = {}
    for row in rows:
        count[row.table] = count.get(row.table, 0) + 1
    assert count == {
        "Kinetics-400": 20,
        "Something-Something v2": 12,
        "Breakfast": 8,
        "COIN": 8,
        "LVU": 9,
        "ImageNet-1K": 4,
    }
    named = {(row.model, row.benchmark): row for row in rows}
    best = named["videomamba_m16_k400_mask_f64_res384", "k400_ft"]
    assert best.numbers == (("top1", 85.0),)
    assert best.result == "videomamba_m16_k400_mask_f64_res384/k400_ft"
    for row in rows:
        assert (row.result is None) == (row.table in ("LVU", "ImageNet-1K")), row
