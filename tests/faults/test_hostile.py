"""Annotations from a stranger: nothing runs, nothing is written outside, errors name the file.

Archives: tests/fetch/test_archive.py. Checkpoints: tests/nn/test_unpickle.py and
test_checkpoint.py. Videos: tests/media/test_video.py and test_pool.py. Receipts and downloads:
tests/fetch/.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.world import SHORT
from vireo.benchmarks import videomme
from vireo.errors import VireoError

CODE = (
    "__import__('os').system('touch canary')",
    "$(touch canary)",
    "`touch canary`",
    "; touch canary #",
    "{{ ''.__class__.__mro__ }}{% for x in y %}",
    "<script>fetch('canary')</script>",
    "'\"; touch canary; \"'",
    "{workflow} {input} {0} %s \\n",
)
VIDEOS = (
    "$(touch canary)", "`touch canary`", ";touch canary", "-rf", "quote'and\"quote",
    "{wildcards.model}", "spaces  and\u202eturned", "<img src=x onerror=alert(1)>",
)  # fmt: skip


def written(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.faults
def test_hostile_annotations_go_through_the_workflow(copy, tmp_path) -> None:
    """Names that a shell, a template or a browser would take for code; ids that look like paths."""
    place = copy()
    root = Path(place.config["paths"]["videomme"])
    path = root / "videomme/test-00000-of-00001.parquet"
    table = pd.read_parquet(path)
    names = dict(zip(table["videoID"].unique(), VIDEOS, strict=False))
    for old, new in names.items():
        for file in (root / "videos").rglob(f"{old}.mp4"):
            file.rename(file.with_name(f"{new}.mp4"))
    table["videoID"] = [names.get(v, v) for v in table["videoID"]]
    ids = [f"../../../outside{n}" for n in range(6)] + [f"/etc/outside{n}" for n in range(6)]
    ids += [f"line\nbreak{n}\t" for n in range(6)] + [f"{CODE[n]}" for n in range(6)]
    table.loc[: len(ids) - 1, "question_id"] = ids
    table["question"] = [CODE[n % len(CODE)] for n in range(len(table))]
    table.loc[0, "question"] = "x" * 3_000_000
    table["url"] = "javascript:alert(1)"
    table["options"] = [
        [f"{mark}. {CODE[(n + k) % len(CODE)]}" for k, mark in enumerate("ABCD")]
        for n in range(len(table))
    ]
    table.to_parquet(path)
    outside = written(tmp_path) - written(place.folder)

    place.config["runs"] = ["tiny/videomme_short"]
    place.make(SHORT, "results/report.html")
    rows = place.predictions()
    assert rows["status"].eq("ok").all() and set(rows.index) == set(table.loc[:23, "question_id"])
    assert not list(tmp_path.rglob("canary*")) and not Path("canary").exists()
    assert not Path("/etc/outside0").exists()
    work = {f"work/{name}" for name in written(place.folder)}
    assert written(tmp_path) - work == {n for n in outside if not n.startswith("work/")}
    page = (place.folder / "results/report.html").read_text()
    for tag in ("<script>fetch(", "<img src=x", 'href="javascript:'):
        assert tag not in page
    scored = json.loads((place.folder / "results/tiny/videomme_short.json").read_text())
    assert scored["coverage"]["ok"] == 24


def parquet(folder: Path, **changed) -> Path:
    """A one-question Video-MME."""
    row = {
        "video_id": "001", "duration": "short", "domain": "Knowledge",
        "sub_category": "Geography", "url": "", "videoID": "film", "question_id": "001-1",
        "task_type": "Counting Problem", "question": "?", "answer": "A",
        "options": ["A. a", "B. b", "C. c", "D. d"], **changed,
    }  # fmt: skip
    path = folder / "test-00000-of-00001.parquet"
    pd.DataFrame([row]).to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\nb"])
def test_video_ids_that_are_paths_are_refused(tmp_path, name) -> None:
    path = parquet(tmp_path, videoID=name)
    with pytest.raises(VireoError) as told:
        videomme.items({"data": tmp_path}, {"partial": True})
    assert str(path) in str(told.value) and repr(name) in str(told.value)


@pytest.mark.parametrize(
    "value",
    [
        *CODE,
        "[" * 100_000,
        "(" * 100_000 + ")" * 100_000,
        "['A. a'," + "'x'," * 200_000 + "]",
        "{'A': " * 5000,
        "[f'A. {__import__(\"os\").getpid()}', 'B. b', 'C. c', 'D. d']",
        "9**9**9",
        "'A' * 10**10",
    ],
)
def test_options_that_are_code_are_an_error_and_never_run(tmp_path, value, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = parquet(tmp_path, options=value)
    began = time.monotonic()
    with pytest.raises(VireoError) as told:
        videomme.items({"data": tmp_path}, {"partial": True})
    assert str(path) in str(told.value) and len(str(told.value)) < 1000
    assert time.monotonic() - began < 10
    assert os.listdir(tmp_path) == [path.name]


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["videoID", "question_id", "question", "answer", "options", "duration"]),
        st.one_of(
            st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=20),
            st.text(max_size=30), st.lists(st.text(max_size=8), max_size=5),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_fields_of_the_wrong_kind_are_named(tmp_path_factory, changed) -> None:
    """Items, or one error that names the file; never another exception."""
    folder = tmp_path_factory.mktemp("wrong")
    path = parquet(folder, **changed)
    try:
        found = videomme.items({"data": folder}, {"partial": True})
    except VireoError as error:
        assert str(path) in str(error)
    else:
        assert len(found) == 1 and "/" not in found["video"].iloc[0]


@pytest.mark.parametrize("seed", range(20))
def test_damaged_tables_are_named(tmp_path, seed) -> None:
    rng = np.random.default_rng(seed)
    path = parquet(tmp_path)
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, len(data), 1 + seed % 5):
        data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(data[: rng.integers(1, len(data))] if seed % 2 else data))
    try:
        videomme.items({"data": tmp_path}, {"partial": True})
    except VireoError as error:
        assert str(path) in str(error)
