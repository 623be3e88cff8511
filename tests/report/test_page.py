"""The report page: whole, offline, escaped, sortable, and honest about what is not there."""

import re
import shutil
from pathlib import Path

import pytest

from tests import script
from tests.report.conftest import Outline, opened, printed
from vireo.errors import VireoError
from vireo.report import examples, load, page, plots


@pytest.fixture(scope="module")
def written(world):
    config, paths = world
    out = Path("results/report.html").resolve()
    page.write(paths, config, out)
    return out


def test_one_page_that_needs_nothing_else(written):
    text = written.read_text(encoding="utf-8")
    outline = Outline(text)
    assert not outline.bad and not outline.open
    assert len(outline.ids) == len(set(outline.ids))
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    targets = {link[1:] for link in outline.links if link.startswith("#")}
    assert targets <= set(outline.ids)
    assert not re.search(r"https?://(?!www\.w3\.org/)", re.sub(r"data:[^\"]*", "", text))
    assert len(text) < 3_000_000


def test_every_table_has_caption_and_scopes(written):
    outline = Outline(written.read_text(encoding="utf-8"))
    assert len(outline.tables) > 20
    assert all(t["caption"] == 1 and t["scopes"] == t["th"] > 0 for t in outline.tables)


def test_texts_from_outside_are_escaped(written):
    text = written.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>Nothing" not in text
    assert "C. &lt;b&gt;Nothing&lt;/b&gt; &amp; no one." in text


def test_says_what_people_ask(written):
    text = written.read_text(encoding="utf-8")
    assert "No ViCLIP or CLIP number on Video-MME has been published" in text
    assert "trained here, with a recipe of ours" in text
    for title in ("By duration", "By domain", "By sub-category", "By task type"):
        assert text.count(f"<h3>{title}</h3>") == 3
    assert "moov atom not found" in text and "clip007" in text
    for control in ("Shuffled videos", "Untrained", "Reversed time", "Swapped channels"):
        assert f'{control}<div class="sub">' in text
    assert "trained here with the recipe" in text and "loss over training steps" in text
    assert text.count("data:image/jpeg;base64,") == 3 * 6 * 8


def test_nothing_published_is_said_in_a_sentence():
    result = {"verdict": {"word": "no published value", "reasons": ["a note"]}}
    said = page.plain_reasons(result)
    assert said == ["No number for this model on this benchmark has been published.", "a note"]
    result["verdict"]["reasons"] = ["none has been published"]
    assert page.plain_reasons(result) == ["none has been published"]


def test_a_breakdown_without_the_primary_metric(world):
    """Kinetics: one row with another way to score, under its own names."""
    import copy

    config, paths = world
    found = load.load_report(paths[:1], config)
    found.runs[0].result = copy.deepcopy(found.runs[0].result)
    row = {"label": "dual softmax", "n": 96, "top1": 85.4}
    found.runs[0].result["breakdowns"] = {"other": [row]}
    text = page.render(found, config)
    assert "dual softmax" in text and "85.40 %" in text


def test_plot_holds_its_numbers():
    rows = [
        {"label": "cost in $ and $x_1$", "value": 40.0, "ci_low": 30.0, "ci_high": 50.0},
        {"label": "no interval", "value": 10.0, "ci_low": None, "ci_high": None},
        {"label": "nothing", "value": None},
    ]
    svg = plots.intervals(rows, "%", 25.0, 'what "it" is', "p1")
    assert "cost in $ and $x_1$" in svg and "nothing" not in svg and "chance" in svg
    assert "what &#34;it&#34; is" in svg and "var(--blue)" in svg and "#010203" not in svg
    assert not re.search(r'id="(?!p1-)', svg)
    assert plots.intervals([rows[2]], "%", None, "", "p") == ""
    assert svg == plots.intervals(rows, "%", 25.0, 'what "it" is', "p1")


def test_examples_are_drawn_the_same_each_time(world):
    config, paths = world
    shown = load.load_report(paths, config).runs[0]
    first, second = examples.choose(shown), examples.choose(shown)
    assert [e.id for e in first] == [e.id for e in second]
    assert [e.right for e in first] == [True] * 3 + [False] * 3
    assert len({e.video for e in first}) == 6
    assert {e.split for e in first[:3]} == {"short", "medium", "long"}
    assert all(sum(o.predicted for o in e.options) == 1 for e in first)
    assert all(abs(sum(o.share for o in e.options) - 1) < 1e-6 for e in first)


class TestSomethingMissing:
    @pytest.fixture
    def copy(self, world, tmp_path, monkeypatch):
        config, paths = world
        shutil.copytree("results", tmp_path / "results")
        shutil.copytree("cache/items", tmp_path / "cache/items")
        monkeypatch.chdir(tmp_path)
        return config, paths[1:2]

    def text(self, config, paths):
        return page.render(load.load_report(paths, config), config)

    def test_predictions_gone(self, copy):
        config, paths = copy
        (paths[0].with_suffix("") / "predictions.parquet").unlink()
        assert "predictions not found" in self.text(config, paths)

    def test_videos_gone(self, copy, tmp_path):
        config, paths = copy
        Path("cache/items/videomme.videos.parquet").unlink()
        assert "no frames: " in self.text(config, paths)

    def test_damaged_result_beside_a_good_one(self, copy):
        config, paths = copy
        Path("results/viclip/broken.json").write_text('{"model": "x"')
        Path("results/viclip/other.json").write_text('{"model": "x"}')
        others = [Path("results/viclip/broken.json"), Path("results/viclip/other.json")]
        text = self.text(config, [*paths, *others])
        assert "Not shown" in text and "broken.json" in text and "other.json" in text
        with pytest.raises(VireoError, match=r"no result to report.*broken.json"):
            load.load_report(others, config)

    def test_empty_run(self, copy):
        import json

        config, paths = copy
        result = json.loads(paths[0].read_text())
        for metric in result["metrics"].values():
            metric |= {"value": None, "n": 0, "ci95": None, "bounds": None}
        result |= {"breakdowns": {"duration": []}, "controls": {}, "protocol": {}, "chance": None}
        paths[0].write_text(json.dumps(result))
        assert "<h2" in self.text(config, paths)


def test_command_line(world, vireo, tmp_path):
    _, paths = world
    done = vireo("report", *paths, "--summary", "--check", "--log", tmp_path / "report.log")
    assert done.returncode == 0, done.stderr
    assert "control shuffled_videos" in done.stdout and "chance inside" in done.stdout
    assert "coverage 171 of 180 items" in done.stdout
    assert vireo("report", paths[0]).returncode == 2
    done = vireo("report", paths[0], "--table", "t.tsv", "--summary")
    assert done.returncode == 2 and "--out" in done.stderr


def test_a_table_for_git(world, tmp_path):
    config, paths = world
    page.write(paths[:2], config, tmp_path / "r.html", tmp_path / "summary.tsv")
    rows = [line.split("\t") for line in (tmp_path / "summary.tsv").read_text().splitlines()]
    assert rows[0][:3] == ["model", "run", "metric"] and len({len(row) for row in rows}) == 1
    assert {tuple(row[:3]) for row in rows[1:]} == {
        (model, run, metric)
        for model, run in (("toy_viclip", "toy_videomme"), ("viclip", "videomme"))
        for metric in ("accuracy", "accuracy_all")
    }
    assert [row[0] for row in rows[1:]] == sorted(row[0] for row in rows[1:])


def test_check_fails_for_a_missed_number(world, tmp_path, vireo):
    import json

    _, paths = world
    result = json.loads(paths[0].read_text())
    result["metrics"]["accuracy"] |= {"verdict": "not reproduced", "reasons": ["too low"]}
    missed = tmp_path / "x.json"
    missed.write_text(json.dumps(result))
    done = vireo("report", missed, "--check")
    assert done.returncode == 1 and "too low" in done.stderr
    # the older name
    done = script.run("report", "check", missed)
    assert done.returncode == 1 and "too low" in done.stderr


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser, written, width, scheme):
    with opened(browser, written, width, scheme) as view:
        assert view.locator("figure svg").count() >= 15
        box = view.locator("figure svg").first.bounding_box()
        assert box["width"] > min(width, 500) * 0.7 and box["height"] > 60
        assert view.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")

        table = view.locator("table[data-breakdown=task_type]").first
        cells = "table => [...table.tBodies[0].rows].map(r => parseFloat(r.cells[1].textContent))"
        before = table.evaluate(cells)
        head = table.locator("thead th").nth(1)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert table.evaluate(cells) == sorted(before, reverse=True)
        head.locator("button").click()
        assert table.evaluate(cells) == sorted(before)
        head.locator("button").click()
        assert table.evaluate(cells) == before

        view.locator("input[data-filter]").first.fill("clip011")
        failed = view.locator("table#r0f tbody tr")
        assert [failed.nth(i).is_visible() for i in range(3)] == [False, False, True]
        assert view.locator("[data-count=r0f]").inner_text() == "1 rows"


@pytest.mark.browser
def test_prints_whole(browser, written):
    width = printed(browser, written, 700, 1000)  # A4 less its margins
    assert width <= 700
