"""Clips cut out of toy videos: InternVid's columns, broken sources, a second run."""

import json
from fractions import Fraction

import numpy as np
import pytest

from vireo.errors import VireoError
from vireo.media import cut
from vireo.media.video import Video
from vireo.toy import video


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with one video of 4 s at 10 frames a second whose brightness tells the time."""
    root = tmp_path_factory.mktemp("source")
    frames = (np.full((96, 128, 3), 6 * i, np.uint8) for i in range(40))
    video.write(root / "abcdefghijk.mp4", frames, video.Encoding(fps=Fraction(10)))
    (root / "brokenbroke.mp4").write_bytes(b"no video")
    return root


def listed(tmp_path, entries):
    path = tmp_path / "InternVid-10M-flt.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def entry(name, start, end, caption="a grey picture"):
    times = {"Start_timestamp": start, "End_timestamp": end}
    return {"YoutubeID": name, **times, "Caption": caption, "UMT_Score": 0.4}


def test_rows_become_clips_and_a_training_list(tmp_path, source) -> None:
    path = listed(
        tmp_path,
        [
            entry("abcdefghijk", "00:00:01.000", "00:00:03.000", "it gets brighter"),
            entry("abcdefghijk", "00:00:09.000", "00:00:10.000"),
            entry("brokenbroke", "00:00:00.000", "00:00:01.000"),
            entry("gonegonegon", "00:00:00.000", "00:00:01.000"),
        ],
    )
    rows = list(cut.rows(path))
    failed = cut.make(rows, source, tmp_path / "out", short=48, rate=5)
    assert len(failed) == 3
    assert "lies outside its 4.00 s" in failed[rows[1].name]
    assert failed[rows[3].name] == "no source video"
    pairs = json.loads((tmp_path / "out/train.json").read_text())
    assert pairs == [{"video": rows[0].name, "caption": "it gets brighter"}]
    with Video(tmp_path / "out" / rows[0].name) as made:
        assert (made.index.F, made.index.height, made.index.width) == (10, 48, 64)
        assert made.index.fps == pytest.approx(5)
        tones = [int(frame.mean()) for frame in made.read(range(10)).frames]
    assert tones == pytest.approx([60 + 12 * i for i in range(10)], abs=4)
    # What is there is not cut again.
    when = (tmp_path / "out" / rows[0].name).stat().st_mtime_ns
    cut.make(rows[:1], source, tmp_path / "out", short=48, rate=5)
    assert (tmp_path / "out" / rows[0].name).stat().st_mtime_ns == when


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"YoutubeID": "a"}, "row 1: no column Start_timestamp"),
        (entry("a", "00:00:05", "00:00:04"), "ends at 4.0 s and starts at 5.0 s"),
        (entry("a", "soon", "00:00:04"), "row 1: could not convert"),
        (entry("../a", 0, 1), "is refused"),
    ],
)
def test_bad_rows_are_named(tmp_path, bad, message) -> None:
    with pytest.raises(VireoError, match=message):
        list(cut.rows(listed(tmp_path, [bad])))


def test_time_stamps() -> None:
    assert cut.seconds("01:00:02.5") == 3602.5
    assert cut.seconds("7.25") == cut.seconds(7.25) == 7.25
