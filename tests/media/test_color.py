"""RGB of tagged clips equals that of the readers of the time, to the bit; orientation; JPEG step.

Goldens: tests/golden/color, made by tests/media/color_goldens.py in environments of old readers.
"""

import json
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media import clips
from tests.media.color_goldens import CLIPS, sha256
from vireo import config as configuration
from vireo.errors import VireoError
from vireo.media import reader as readers
from vireo.media import store
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.jpegs import GUIDE
from vireo.media.reader import OPENCV, PYAV, Reader
from vireo.media.video import Video

GOLDEN = Path(__file__).parents[1] / "golden/color"
EXPECTED = json.loads((GOLDEN / "readers.json").read_text())
DECORD = {"chroma": "center"}
LIKE = {"opencv": OPENCV, "pyav": PYAV, "decord": DECORD}
# Where chroma is interpolated, RGB of FFmpeg 4 to 7 was reached by other code than BGR's.
NEAR = [name for name in CLIPS if "10bit" in name or "411" in name]


def rgb(name: str, **choices: str) -> np.ndarray:
    with Video(GOLDEN / name, reader=Reader(**choices)) as video:
        return np.stack(video.read(range(video.index.F)).frames)


@pytest.mark.parametrize("kind", LIKE)
@pytest.mark.parametrize("clip", CLIPS)
def test_equal_to_the_reader_of_the_time(clip: str, kind: str) -> None:
    versions = {name: hashes[clip] for name, hashes in EXPECTED.items() if name.startswith(kind)}
    ours = sha256(rgb(clip, **LIKE[kind]))
    exact = clip not in NEAR or kind == "opencv"
    assert versions == dict.fromkeys(versions, ours) if exact else ours not in versions.values()


@pytest.mark.parametrize("reader", ["pyav 12.3.0", "decord 0.6.0"])
@pytest.mark.parametrize("clip", NEAR)
def test_near_where_chroma_is_interpolated(clip: str, reader: str) -> None:
    with np.load(GOLDEN / "near.npz") as held:
        theirs = held[f"{reader}/{clip}"].astype(int)
    ours = rgb(clip, **LIKE[reader.split()[0]])[:1].astype(int)
    assert np.abs(ours - theirs).mean() < 0.8  # 4 with the chroma where the tag says


def test_the_matrix_matters_only_where_another_is_tagged() -> None:
    for name in ("h264_untagged.mp4", "h264_601.mp4", "mpeg4.avi", "ffv1_rgb.mkv"):
        assert np.array_equal(rgb(name), rgb(name, **OPENCV))
    for name in ("h264_709.mp4", "h264_2020.mp4", "vp9_709.webm", "hevc_709_full.mp4"):
        far = np.abs(rgb(name).astype(int) - rgb(name, matrix="bt601"))
        assert 3 < far.mean() < 12 and far.max() > 30
    full = np.abs(rgb("vp9_untagged_full.webm").astype(int) - rgb("vp9_untagged_full.webm", **PYAV))
    assert full.mean() > 3  # older readers took full range for limited unless the format said so


def test_every_protocol_names_its_reader() -> None:
    config = configuration.load()
    for name, block in config["benchmarks"].items():
        named = block["protocol"]["frames"]["reader"]
        assert {"matrix", "range", "chroma", "kernel", "rate"} <= set(named), name
        readers.of(block["protocol"]["frames"])
    by = {n: b["protocol"]["frames"]["reader"]["matrix"] for n, b in config["benchmarks"].items()}
    assert (by["videomme"], by["youcook2"], by["sqa3d"]) == ("bt601", "bt601", "bt601")
    assert (by["k400"], by["k400_ft"], by["breakfast"], by["msrvtt"]) == ("tagged",) * 4
    assert config["benchmarks"]["videomme"]["protocol"]["frames"]["reader"] == {
        **OPENCV,
        "rate": "average",
    }
    assert Reader(**OPENCV) == GUIDE


def test_the_reader_is_in_the_key_with_its_defaults() -> None:
    rule = {"rule": "middle", "n": 8}
    keys = {
        store.spec_key({**rule, "reader": {key: value}}, None)
        for key, values in readers.CHOICES.items()
        for value in values
    }
    # The default of each of the seven is the same key, the other of each one of its own.
    assert len(keys) == 1 + len(readers.CHOICES)
    assert store.spec_key(rule, None) in keys
    assert store.spec_key({**rule, "reader": {"jpeg": 95}}, None) not in keys


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"matrix": "bt709"}, "did you mean|bt601"),
        ({"matrics": "bt601"}, "key of the frame rule's reader"),
        ({"jpeg": 0}, "no quality"),
        ({"jpeg": True}, "no quality"),
        ("opencv", "no mapping"),
    ],
)
def test_an_unknown_choice_is_an_error(given: object, message: str) -> None:
    with pytest.raises(VireoError, match=message):
        decode_one(DecodeRequest("x", "x.mp4", rule={"rule": "every", "reader": given}))


def with_matrix(path: Path, values: tuple[float, float, float, float]) -> Path:
    """A clip of 64 x 32 with a display matrix of its own in the track's header."""
    clips.clip(path, 3, width=64, height=32)
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44
    a, b, c, d = (int(v * 65536) for v in values)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30 if any(values) else 0)
    path.write_bytes(data)
    return path


def flipped(picture: np.ndarray, turns: int, mirror: bool) -> np.ndarray:
    return np.rot90(picture[:, ::-1] if mirror else picture, turns)


# display matrix -> (quarter turns, mirrored before them) of the picture a player shows
MATRICES = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (3, False),
    (-1, 0, 0, -1): (2, False),
    (0, -1, 1, 0): (1, False),
    (-1, 0, 0, 1): (0, True),
    (1, 0, 0, -1): (2, True),
    (0, 1, 1, 0): (1, True),
    (0, -1, -1, 0): (3, True),
}


@pytest.mark.parametrize("values", MATRICES)
def test_orientation(tmp_path: Path, values: tuple[int, int, int, int]) -> None:
    turns, mirror = MATRICES[values]
    path = with_matrix(tmp_path / "turned.mp4", values)
    truth = clips.sequential(str(path))
    for choice in ("angle", "matrix"):
        with Video(path, reader=Reader(orientation=choice)) as video:
            flags = video.index.flags
            shown = video.read([1]).frames[0]
        assert flags == (("mirrored",) if mirror and choice == "angle" else ())
        if choice == "matrix" or not mirror:
            assert np.array_equal(shown, flipped(truth[1], turns, mirror))
        else:  # what OpenCV of this environment makes of it
            capture = cv2.VideoCapture(str(path))
            capture.read()
            assert np.array_equal(shown, capture.read()[1][..., ::-1])


def test_a_matrix_of_zeros_turns_nothing(tmp_path: Path) -> None:
    path = with_matrix(tmp_path / "zero.mp4", (0, 0, 0, 0))
    for choice in ("angle", "matrix"):
        with Video(path, reader=Reader(orientation=choice)) as video:
            assert (video.index.rotation, video.index.flags) == (0, ())
            assert np.array_equal(video.read([2]).frames[0], clips.sequential(str(path))[2])


def test_the_jpeg_step_is_cv2s_file(tmp_path: Path) -> None:
    rule = {"rule": "every", "reader": {**OPENCV, "jpeg": 95}}
    plain = decode_one(
        DecodeRequest("x", str(GOLDEN / "h264_709.mp4"), rule={**rule, "reader": OPENCV})
    )
    sample = decode_one(DecodeRequest("x", str(GOLDEN / "h264_709.mp4"), rule=rule))
    assert plain.frames is not None and sample.frames is not None
    for before, after in zip(plain.frames, sample.frames, strict=True):
        cv2.imwrite(str(tmp_path / "a.jpg"), before[..., ::-1])
        assert np.array_equal(after, cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1])
        assert 0 < np.abs(after.astype(int) - before).mean() < 8


@pytest.mark.parametrize("rate", ["average", "nominal"])
def test_clocks_count_by_the_readers_rate(tmp_path: Path, rate: str) -> None:
    """A second at 30 frames and five at 6: OpenCV 4.10 reports about 10 a second, 4.8.1 30."""
    pts = [20 * i if i < 30 else 600 + 100 * (i - 30) for i in range(60)]
    path = clips.clip(tmp_path / "v.mp4", 60, rate=30, pts=pts, time_base=clips.Fraction(1, 600))
    reported = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    with Video(path) as video:
        index = replace(video.index)
    assert index.fps == pytest.approx(reported) and index.rate == 30
    found = {}
    for rule in ({"rule": "accumulated"}, {"rule": "slicer_then_stride"}):
        request = DecodeRequest("x", str(path), rule={**rule, "reader": {"rate": rate}})
        found[rule["rule"]] = decode_one(request).indices
    if rate == "average":
        assert found["accumulated"] == [0, 6, 11, 16, 21, 26, 31, 36, 41, 47, 52, 57]
        assert found["slicer_then_stride"][:6] == [10, 19, 30, 40, 51, 58]
    else:
        assert found["accumulated"] == [0, 16, 31, 45]
        assert found["slicer_then_stride"][:2] == [29, 58]
