"""Files whose packets do not say what a decoder shows, and windows outside a video."""

import itertools
from pathlib import Path

import pytest

from tests.media import clips, fuzz
from vireo.media import sampling
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.video import Video

ALL = list(fuzz.cases())


@pytest.mark.parametrize("case", ALL[::17], ids=lambda case: case.name)
def test_a_sample_of_the_fuzz(case: fuzz.Case, tmp_path: Path) -> None:
    assert fuzz.check(case, tmp_path).wrong == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_the_whole_fuzz(tmp_path: Path) -> None:
    wrong = []
    for number, case in enumerate(ALL):
        folder = tmp_path / str(number)
        folder.mkdir()
        wrong += fuzz.check(case, folder).wrong
    assert wrong == [] and len(ALL) >= 300


@pytest.mark.parametrize("target", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["h264_b", "hevc_b", "mpeg4_b"])
def test_packet_times_in_decoding_order(tmp_path: Path, codec: str, target: str) -> None:
    source = fuzz.CODECS[codec][0](tmp_path / f"raw.{fuzz.RAW[codec]}", format=fuzz.RAW[codec])
    path = fuzz.remux(tmp_path / f"copied.{target}", source, "decode_order")
    truth = [clips.number(f) for f in clips.sequential(str(path))]
    with Video(path) as video:
        assert not video.index.timed and len(truth) == video.index.F
        single = [clips.number(video.read([i]).frames[0]) for i in range(0, len(truth), 5)]
    assert single == truth[::5]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_cut_file_is_short_and_may_be_refused(tmp_path: Path, ending: str) -> None:
    first = {"movflags": "faststart"} if ending == "mp4" else {}
    whole = clips.clip(tmp_path / f"whole.{ending}", 200, container=first)
    path = clips.truncate(tmp_path / f"cut.{ending}", whole)
    sample = decode_one(DecodeRequest("x", str(path), rule={"rule": "middle", "n": 4}))
    assert sample.status == "ok" and "short" in sample.flags
    assert "the header says" in sample.info["note"]
    rule = {"rule": "middle", "n": 4, "reader": {"short": "refuse"}}
    refused = decode_one(DecodeRequest("x", str(path), rule=rule))
    assert refused.status == "undecodable" and "cut short" in str(refused.error)
    intact = decode_one(DecodeRequest("x", str(whole), rule=rule))
    assert intact.status == "ok" and "short" not in intact.flags


def test_sound_longer_than_the_film_is_no_cut(tmp_path: Path) -> None:
    path = clips.clip(tmp_path / "sound.mp4", 5, audio=True)  # 0.2 s of film, 1 s of sound
    with Video(path) as video:
        assert video.index.flags == ()


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [(150, 160, "missing"), (3, 2, "missing"), (-5, -1, "missing"), (2, 99, "ok"), (0, 1, "ok")],
)
def test_windows_outside_a_video(tmp_path: Path, start: float, end: float, status: str) -> None:
    path = clips.clip(tmp_path / "five.mp4", 125)  # five seconds
    request = DecodeRequest("x", str(path), rule={"rule": "middle", "n": 2}, start=start, end=end)
    sample = decode_one(request)
    assert sample.status == status
    assert status == "ok" or "the span from" in str(sample.error)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in sampling.RULES
        if name not in ("fps", "accumulated", "every", "sparse_clips")
    ],
)
def test_every_rule_flags_padding(name: str) -> None:
    assert "padded" in sampling.pick({"rule": name, "n": 64}, 3, 25.0).flags
    if name != "slicer_then_stride":  # which takes one frame a second
        assert sampling.pick({"rule": name, "n": 8}, 300, 25.0).flags == []


def test_a_whole_video_is_read_one_picture_at_a_time(tmp_path: Path) -> None:
    path = clips.clip(tmp_path / "long.mp4", 200)
    with Video(path) as video:
        numbers = [clips.number(p) for _, _, p in itertools.islice(video.pictures(range(200)), 50)]
    assert numbers == list(range(50))
