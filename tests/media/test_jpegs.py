"""The pre-extracted JPEG layout gives the frames of the direct route."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.media import clips
from vireo.media import jpegs
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.video import UndecodableVideo, Video

RULE = {"rule": "slicer_then_stride", "n": 8, "candidates": 32, "dedupe": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("jpegs")


@pytest.mark.parametrize(("count", "rate"), [(200, 5), (90, 5), (40, 20)])
@pytest.mark.parametrize("naming", ["slicer", "numbered"])
def test_same_frames_as_from_the_video(folder, naming, count, rate):
    video = clips.clip(folder / f"a.b_{count}.mp4", count, rate=rate)
    frames = folder / "output" / naming / f"a.b_{count}" / "frames"
    kept = jpegs.extract(video, frames, naming=naming)
    rule = RULE if naming == "slicer" else {**RULE, "dedupe": False}
    direct = decode_one(DecodeRequest("x", str(video), rule=rule))
    layout = decode_one(DecodeRequest("x", str(frames), kind="jpegs", rule=rule))
    assert layout.status == direct.status == "ok"
    if naming == "slicer":
        assert layout.flags == direct.flags
        # this naming tells seconds only: indices are positions in the folder
        assert [kept[i] for i in layout.indices] == direct.indices
        assert layout.times == [int(i / rate) for i in direct.indices]
    elif len(kept) == 32:
        assert layout.indices == direct.indices
        assert layout.times == pytest.approx(direct.times, abs=1e-3)
    assert [clips.number(f) for f in layout.frames] == (
        [kept[i] for i in layout.indices] if naming == "slicer" else layout.indices
    )


def test_order_is_numeric(folder):
    frames = folder / "order"
    frames.mkdir()
    for minute, second in [(99, 59), (100, 5), (9, 30), (0, 1), (10, 0)]:
        picture = Image.fromarray(clips.frame(minute * 60 + second))
        picture.save(frames / f"x_mp4_frame_{minute:02d}:{second:02d}.jpg", quality=95)
    with jpegs.Jpegs(frames) as opened:
        got = opened.read(range(5))
        assert opened.index.times.tolist() == [1, 570, 600, 5999, 6005]
    assert [clips.number(p) for p in got.frames] == [1, 570, 600, 5999, 6005]
    for name in ("frame2.jpg", "frame10.jpg", "frame1.JPG"):
        plain = folder / "plain"
        plain.mkdir(exist_ok=True)
        Image.fromarray(clips.frame(int(name[5:-4]))).save(plain / name, quality=95)
    with jpegs.Jpegs(plain) as opened:
        assert [clips.number(p) for p in opened.read(range(3)).frames] == [1, 2, 10]


def test_damaged_pictures(folder):
    video = clips.clip(folder / "whole.mp4", 160, rate=5)
    frames = folder / "damaged"
    jpegs.extract(video, frames)
    files = sorted(frames.iterdir())
    shutil.copytree(frames, folder / "all_damaged")
    files[4].write_bytes(files[4].read_bytes()[:700])  # OpenCV would return it half grey
    files[8].write_bytes(b"<html>")
    sample = decode_one(DecodeRequest("x", str(frames), kind="jpegs", rule=RULE))
    assert sample.status == "ok"
    assert sample.indices == [0, 3, 7, 12, 16, 20, 24, 28]
    assert set(sample.flags) == {"substituted", "damaged"}
    for file in (folder / "all_damaged").iterdir():
        file.write_bytes(b"")
    sample = decode_one(DecodeRequest("x", str(folder / "all_damaged"), kind="jpegs", rule=RULE))
    assert sample.status == "undecodable" and "can be read" in sample.error


def test_empty_folder_and_large_pictures(folder):
    empty = folder / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    with pytest.raises(UndecodableVideo, match="no frame"):
        jpegs.Jpegs(empty)
    assert decode_one(DecodeRequest("x", str(empty), kind="jpegs", rule=RULE)).status == "missing"
    Image.new("RGB", (300, 300)).save(empty / "large.jpg")
    sample = decode_one(
        DecodeRequest("x", str(empty), kind="jpegs", rule=RULE), max_pixels=300 * 299
    )
    assert sample.status == "undecodable" and "300x300" in sample.error


def test_extractor_keeps_one_frame_per_second(folder):
    video = clips.clip(folder / "short.mp4", 50, rate=25)
    kept = jpegs.extract(video, folder / "short_frames")
    assert sorted(p.name for p in (folder / "short_frames").iterdir()) == [
        "short_mp4_frame_00:00.jpg",
        "short_mp4_frame_00:01.jpg",
    ]
    assert kept == [23, 48]
    with Video(video) as opened:
        direct = opened.read(kept).frames
    with jpegs.Jpegs(folder / "short_frames") as opened:
        stored = opened.read([0, 1]).frames
    assert np.abs(np.stack(direct).astype(int) - np.stack(stored)).mean() < 3
