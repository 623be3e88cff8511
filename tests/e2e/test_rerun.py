"""What makes files again and what does not: only what changes an outcome."""

import copy
import re
import shutil

import pytest

from tests.e2e.world import SHORT, Place


def changed(place: Place, **over) -> Place:
    """The same working directory under a changed configuration."""
    config = copy.deepcopy(place.config)
    for path, value in over.items():
        *parents, last = path.split("__")
        at = config
        for key in parents:
            at = at.setdefault(key, {})
        at[last] = value
    return Place(place.folder, config, place.home)


def test_nothing_changed_nothing_to_do(finished) -> None:
    assert "Nothing to be done" in finished.plan(SHORT).text


def test_an_edited_comment_runs_nothing(finished, checkout) -> None:
    home = checkout("edited")
    for pattern in ("vireo/**/*.py", "scripts/*.py", "rules/*.smk"):
        for file in home.glob(pattern):
            file.write_text(file.read_text() + "# A remark.\n")
    assert "Nothing to be done" in Place(finished.folder, finished.config, home).plan(SHORT).text


def test_settings_of_the_machine_run_nothing(finished) -> None:
    over = {"batch_size": 7, "device": "auto", "max_failed": 0.5, "decode__workers": 1}
    over |= {"models__tiny__hardware__batch": 3}
    assert "Nothing to be done" in changed(finished, **over).plan(SHORT).text


@pytest.mark.parametrize(
    ("over", "rules"),
    [
        ({"models__tiny__version": 2}, {"infer", "score"}),
        ({"dtype": "bfloat16"}, {"infer", "score"}),
        (
            {"benchmarks__videomme__protocol__prompt__letter_prefix": False},
            {"infer", "score"},
        ),
        (
            {"models__tiny__protocols": {"videomme": {"frames": {"dedupe": False}}}},
            {"frames", "infer", "score"},
        ),
        ({"benchmarks__videomme__note": "Another remark."}, {"score"}),
        ({"benchmarks__videomme__chance": 20.0}, {"score"}),
        ({"models__tiny__title": "another word"}, {"score"}),  # it is written into the result
    ],
)
def test_what_changes_an_outcome_runs_exactly_that(finished, over, rules) -> None:
    assert set(changed(finished, **over).plan(SHORT).ran()) == rules


def test_reports(finished, tmp_path) -> None:
    """Our page follows the results; Snakemake's own report is one file that needs no network."""
    shutil.copytree(finished.folder, tmp_path / "work")
    runs = {"runs": ["tiny/videomme_short"]}
    place = changed(Place(tmp_path / "work", finished.config), **runs)
    assert set(place.make("results/report.html").ran()) == {"report"}
    page = (place.folder / "results/report.html").read_text()
    for word in ("No ViCLIP or CLIP number", "What happens?", "chance", "data:image/"):
        assert word in page
    assert "Nothing to be done" in place.plan("results/report.html").text

    rows = place.journalled()
    place = changed(place, benchmarks__videomme__note="Quite another remark.")
    assert set(place.make("results/report.html").ran()) == {"score", "report"}
    assert "Quite another remark." in (place.folder / "results/report.html").read_text()
    assert place.journalled() == rows

    place.make("results/report.html", "--report", "report.html")
    text = (place.folder / "report.html").read_text()
    assert "videomme_short.json" in text
    loaded = re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="(https?:[^"]+)"', text)
    assert not loaded, loaded
