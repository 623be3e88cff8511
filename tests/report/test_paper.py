"""Paper pages: every published number beside ours, with verdict and reason, and what cannot be."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.report.conftest import Outline, opened, printed
from vireo import config as cfg
from vireo.report import page, paper
from vireo.results import papers, published, verdict

RUNS = {
    ("viclip", "k400"): {"top1": 64.70, "avg": 75.65},
    ("viclip", "k600"): {"top1": 62.00, "avg": 73.4},
    ("viclip_b16", "k400"): {"top1": 55.0, "avg": 68.0},
    ("clip_l14", "k400"): {"top1": 58.4, "avg": 70.1},
}


@pytest.fixture(scope="module")
def made(world):
    """The page of ViCLIP with four made-up runs: (config, path of the page)."""
    config, paths = world
    numbers = published.read(cfg.HOME / "config/published.tsv")
    pattern = json.loads(paths[1].read_text())
    files = []
    for (model, benchmark), values in RUNS.items():
        found = published.find(numbers, model, benchmark, ["val"], headline=True)
        result = json.loads(json.dumps(pattern))
        result |= {"model": model, "run": benchmark, "benchmark": benchmark, "primary": "top1"}
        metric = result["metrics"]["accuracy"]
        result["metrics"] = {}
        whole = model != "viclip_b16"
        for name, value in values.items():
            ci95, bounds = [value - 1, value + 1], [value - 2, value + 4]
            said = verdict.judge(
                found[name], value, coverage=1.0 if whole else 0.95, ci95=ci95, bounds=bounds,
                same_set=model == "viclip" and benchmark == "k400",
            )  # fmt: skip
            result["metrics"][name] = {
                **metric, "value": value, "ci95": ci95, "bounds": bounds, "gap": said.gap,
                "published": found[name].value, "tolerance": said.tolerance,
                "verdict": said.word, "reasons": said.reasons,
            }  # fmt: skip
        path = Path(f"results/{model}/{benchmark}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
        files.append(path)
    out = Path("results/viclip.html").resolve()
    paper.write(config, "viclip", files, out)
    return config, out


def test_every_published_number_has_its_cell(made) -> None:
    _, out = made
    held = json.loads(out.with_suffix(".json").read_text())
    numbers = published.read(cfg.HOME / "config/published.tsv")
    wanted = [r for r in numbers if r.paper == "viclip" and r.value is not None]
    assert len(held["cells"]) == len(wanted)
    cells = {(c["model"], c["benchmark"], c["metric"]): c for c in held["cells"]}
    ours = cells["viclip", "k400", "top1"]
    assert ours["verdict"] == "reproduced" and ours["gap"] == pytest.approx(-0.1)
    assert ours["value"] == 64.7 and ours["published_text"] == "64.80" and ours["coverage"] < 1
    assert cells["clip_l14", "k400", "top1"]["verdict"] == "consistent"
    assert cells["viclip_b16", "k400", "top1"]["verdict"] == "inconclusive"
    assert cells["viclip", "k600", "top1"]["verdict"] in ("consistent", "not reproduced")
    assert cells["viclip_avg", "k700", "avg"]["reasons"] == ["not run yet"]
    assert cells["clip_l14_ft_k400", "k400_ft", "top1"]["verdict"] == "no weights released"
    assert "published only" in cells["eva_clip_e", "k400", "avg"]["reasons"][0]
    assert all(c["verdict"] in verdict.VERDICTS for c in held["cells"])


def test_the_table_is_the_same_in_text(made) -> None:
    _, out = made
    held = json.loads(out.with_suffix(".json").read_text())["cells"]
    with open(out.with_suffix(".tsv"), newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert len(rows) == len(held) and rows[0].keys() == held[0].keys()
    for row, cell in zip(rows, held, strict=True):
        assert row["published_text"] == cell["published_text"] and row["verdict"] == cell["verdict"]


def test_the_page_is_whole_and_says_why(made) -> None:
    _, out = made
    text = out.read_text(encoding="utf-8")
    outline = Outline(text)
    assert not outline.bad and not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert all(t["caption"] == 1 and t["scopes"] == t["th"] > 0 for t in outline.tables)
    for words in (
        "What is not reproducible, and why", "published only: no block for EVA-CLIP here",
        "recipe clip_l14_ft_k400 is ours", "not run yet",
        "no weights released; a recipe of ours trains it",
        "Kinetics-400 validation clips", "frames.rule", "within the tolerance",
        "inside the 95 % interval", "only inside the bounds", "Ours above, published below",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("<svg") >= 2 and len(text) < 2_000_000


def test_a_paper_of_which_nothing_was_run(world, tmp_path) -> None:
    config, _ = world
    for name in papers.names(config):
        paper.write(config, name, [], tmp_path / f"{name}.html")
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "Nothing has been run yet" in text and f"paper_{name}" in text
    assert "* recalled from memory" in (tmp_path / "sqa3d.html").read_text(encoding="utf-8")
    assert "Google Drive folder" in (tmp_path / "sqa3d.html").read_text(encoding="utf-8")


def test_a_damaged_result_is_not_run(made, tmp_path) -> None:
    config, _ = made
    broken = Path("results/viclip_avg/k400.json")
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("{")
    paper.write(config, "viclip", [broken], tmp_path / "p.html")
    cells = json.loads((tmp_path / "p.json").read_text())["cells"]
    assert {c["verdict"] for c in cells} == {"not run", "no weights released"}


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_in_a_browser(browser, made, width, scheme) -> None:
    _, out = made
    with opened(browser, out, width, scheme) as view:
        rows = view.locator("#cells tbody tr")
        view.locator("input[data-filter=cells]").fill("no weights")
        shown = view.evaluate(
            "[...document.querySelectorAll('#cells tbody tr')].filter(r => !r.hidden).length"
        )
        assert 0 < shown < rows.count()
        assert view.locator("[data-count=cells]").inner_text() == f"{shown} rows"
        view.locator("input[data-filter=cells]").fill("")
        head = view.locator("#cells thead th").nth(4)
        head.locator("button").click()
        first = view.evaluate("document.querySelector('#cells tbody tr').cells[4].textContent")
        assert first.startswith("75.65")


@pytest.mark.browser
def test_prints_whole(browser, made) -> None:
    _, out = made
    printed(browser, out, 1000, 700)


def test_numbers_are_signed_and_rounded() -> None:
    assert page.signed(-0.1) == "−0.10" and re.match(r"64\.80", page.number(64.8, "%"))
