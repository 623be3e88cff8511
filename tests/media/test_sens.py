"""ScanNet .sens: the reference reader's numbers, damage of every kind, exports."""

import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vireo.errors import VireoError
from vireo.media import sens_export, sens_write
from vireo.media.sens import FRAME, IMU, Sens, SensError

GOLDEN = Path(__file__).parents[1] / "golden/sens"
TINY = GOLDEN / "tiny.sens"


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "tiny_decoded.npz") as file:
        return dict(file)


def payloads(expected: dict[str, np.ndarray]) -> list[bytes]:
    ends = expected["color_payload_offsets"]
    return [expected["color_payload"][a:b].tobytes() for a, b in pairwise(ends)]


def test_header_is_the_references(expected: dict[str, np.ndarray]) -> None:
    with Sens(TINY) as sens:
        head = sens.header
    assert (head.version, head.name) == (4, str(expected["sensor_name"]))
    assert (head.color_kind, head.depth_kind) == ("jpeg", "zlib_ushort")
    assert head.color_size == tuple(expected["color_size"])
    assert head.depth_size == tuple(expected["depth_size"])
    assert head.depth_shift == expected["depth_shift"] and head.frames == 12
    for name in ("intrinsic_color", "extrinsic_color", "intrinsic_depth", "extrinsic_depth"):
        np.testing.assert_array_equal(getattr(head, name), expected[name])


def test_frames_are_the_references(expected: dict[str, np.ndarray]) -> None:
    with Sens(TINY) as sens:
        frames = list(sens.frames())
        assert [f.index for f in frames] == list(range(12))
        assert [f.index for f in frames if f.lost] == [3, 8]
        for n, (frame, payload) in enumerate(zip(frames, payloads(expected), strict=True)):
            np.testing.assert_array_equal(frame.pose, expected["pose"][n])
            np.testing.assert_array_equal(frame.depth(), expected["depth"][n])
            assert frame.color_payload() == payload
            assert frame.time_color == expected["timestamp_color"][n]
            assert frame.time_depth == expected["timestamp_depth"][n]
            assert frame.depth_bytes == expected["depth_size_bytes"][n]
        for frame, wanted in zip(frames, expected["color_rgb_reference_first2"], strict=False):
            assert np.abs(frame.color().astype(int) - wanted).max() <= 3
        assert [f.index for f in sens.frames(5)] == [0, 5, 10]
        assert [f.index for f in sens.frames(2, start=1, stop=6)] == [1, 3, 5]


def test_imu_records_are_the_references(expected: dict[str, np.ndarray]) -> None:
    with Sens(TINY) as sens:
        imu = sens.imu()
    fields = ("rotation_rate", "acceleration", "magnetic_field", "attitude", "gravity")
    np.testing.assert_array_equal(np.stack([imu[f] for f in fields], 1), expected["imu_f64"])
    np.testing.assert_array_equal(imu["timestamp"], expected["imu_timestamp"])


def test_export_as_the_cpp_reader(tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    done = sens_export.export(TINY, tmp_path)
    assert (done.frames, done.lost) == (12, 2)
    assert len(list(tmp_path.iterdir())) == 1 + 3 * 12
    for n, payload in enumerate(payloads(expected)):
        assert (tmp_path / f"frame-{n:06d}.color.jpg").read_bytes() == payload
        head, rest = (tmp_path / f"frame-{n:06d}.depth.pgm").read_bytes().split(b"65535\n", 1)
        assert head == b"P5\n# data values are 16-bit each; depth shift is 1000\n32 24\n"
        np.testing.assert_array_equal(
            np.frombuffer(rest, ">u2").reshape(24, 32), expected["depth"][n]
        )
    pose = (tmp_path / "frame-000001.pose.txt").read_text()
    assert pose == str(expected["pose_txt_frame1"])
    assert (tmp_path / "frame-000003.pose.txt").read_text() == "\n".join(["-inf " * 3 + "-inf"] * 4)
    info = (tmp_path / "_info.txt").read_text().splitlines()
    assert info[0] == "m_versionNumber = 4" and info[-1] == "m_frames.size = 12"
    assert info[7].startswith("m_calibrationColorIntrinsic = ") and info[7].endswith(" 1 ")
    assert [line.split(" = ")[0] for line in info[1:7]] == [
        *("m_sensorName", "m_colorWidth", "m_colorHeight"),
        *("m_depthWidth", "m_depthHeight", "m_depthShift"),
    ]


def test_export_as_the_python_reader(tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    sens_export.export(TINY, tmp_path, layout="python", stride=4)
    assert sorted(p.name for p in (tmp_path / "color").iterdir()) == ["0.jpg", "4.jpg", "8.jpg"]
    depth = np.asarray(Image.open(tmp_path / "depth/4.png"))
    np.testing.assert_array_equal(depth, expected["depth"][4])
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "pose/4.txt"), expected["pose"][4], atol=5.1e-7
    )
    matrix = np.loadtxt(tmp_path / "intrinsic/intrinsic_color.txt")
    np.testing.assert_allclose(matrix, expected["intrinsic_color"], atol=5.1e-7, rtol=1e-6)


def jpeg(value: int, size: tuple[int, int] = (16, 12)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(out, "JPEG")
    return out.getvalue()


def small(path: Path, count: int = 5, **head: object) -> Path:
    header = sens_write.header((16, 12), (8, 6), **head)
    depth = np.arange(48, dtype=np.uint16).reshape(6, 8)
    rows = []
    for n in range(count):
        color = jpeg(20 * n)
        if header.color_kind == "raw":
            color = np.full((12, 16, 3), n, np.uint8).tobytes()
        elif header.color_kind == "png":
            out = io.BytesIO()
            Image.fromarray(np.full((12, 16, 3), n, np.uint8)).save(out, "PNG")
            color = out.getvalue()
        rows.append((np.eye(4) * (n + 1), color, depth + n))
    imu = np.zeros(2, IMU)
    assert sens_write.write(path, header, rows, imu) == count
    return path


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("kinds", [("raw", "raw_ushort"), ("png", "zlib_ushort")])
def test_other_kinds(tmp_path: Path, version: int, kinds: tuple[str, str]) -> None:
    path = small(tmp_path / "a.sens", version=version, color_kind=kinds[0], depth_kind=kinds[1])
    with Sens(path) as sens:
        for n, frame in enumerate(sens.frames()):
            np.testing.assert_array_equal(frame.color(), np.full((12, 16, 3), n, np.uint8))
            assert frame.depth()[0, 1] == n + 1
        assert len(sens.imu()) == (2 if version == 4 else 0)
    sens_export.export(path, tmp_path / "out", parts=["color"])
    with Image.open(tmp_path / "out/frame-000003.color.png") as picture:
        assert np.asarray(picture)[0, 0].tolist() == [3, 3, 3]


def test_occi_depth_is_refused_by_name(tmp_path: Path) -> None:
    path = small(tmp_path / "a.sens", depth_kind="occi_ushort")
    with Sens(path) as sens, pytest.raises(SensError, match="occi_ushort"):
        next(sens.frames()).depth()
    assert sens_export.export(path, tmp_path / "out", parts=["color", "pose"]).frames == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:7], "header"),
        (lambda b: (2).to_bytes(4, "little") + b[4:], "version 2 .an old .sensor file"),
        (lambda b: b[:4] + (10**9).to_bytes(8, "little") + b[12:], "name"),
        (lambda b: b[: 27 + 256] + b"\x09" + b[27 + 257 :], "compression of colour 9"),
        (lambda b: b[: 27 + 284] + b"\xff" * 8 + b[27 + 292 :], "do not fit"),
    ],
)
def test_bad_headers(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    whole = small(tmp_path / "a.sens").read_bytes()
    (tmp_path / "b.sens").write_bytes(change(whole))
    with pytest.raises(SensError, match=message):
        Sens(tmp_path / "b.sens")


def test_missing_file_and_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(SensError, match="cannot open"):
        Sens(tmp_path / "none.sens")
    with pytest.raises(VireoError, match="did you mean 'color'"):
        sens_export.export(TINY, tmp_path, parts=["colour"])
    with pytest.raises(VireoError, match="layout"):
        sens_export.export(TINY, tmp_path, layout="matlab")
    with pytest.raises(VireoError, match="stride"):
        sens_export.export(TINY, tmp_path, stride=0)


def test_truncation_names_frame_and_byte(tmp_path: Path) -> None:
    whole = TINY.read_bytes()
    with Sens(TINY) as sens:
        cut = list(sens.frames())[7].offset + 150
    (tmp_path / "cut.sens").write_bytes(whole[:cut])
    with Sens(tmp_path / "cut.sens") as sens:
        seen = []
        with pytest.raises(SensError, match=rf"frame 7, byte {cut - 150}: the file ends at"):
            seen += [frame.index for frame in sens.frames()]
    with pytest.raises(SensError):
        sens_export.export(tmp_path / "cut.sens", tmp_path / "out", parts=["color"])
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_damaged_depth_stream_is_named(tmp_path: Path) -> None:
    data = bytearray(TINY.read_bytes())
    with Sens(TINY) as sens:
        frame = list(sens.frames())[4]
    data[frame.end - 3] ^= 255  # inside the checksum of the stream
    (tmp_path / "a.sens").write_bytes(data)
    with Sens(tmp_path / "a.sens") as sens:
        frame = list(sens.frames())[4]
        with pytest.raises(SensError, match=r"frame 4, byte .* depth"):
            frame.depth()


def test_colour_of_another_size_is_refused(tmp_path: Path) -> None:
    rows = [(np.eye(4), jpeg(1, (32, 24)), np.zeros((6, 8), np.uint16))]
    sens_write.write(tmp_path / "a.sens", sens_write.header((16, 12), (8, 6)), rows)
    with Sens(tmp_path / "a.sens") as sens, pytest.raises(SensError, match=r"32x24.*16x12"):
        next(sens.frames()).color()


def test_a_decompression_bomb_stays_small(tmp_path: Path) -> None:
    header = replace(sens_write.header((16, 12), (8, 6)), depth_kind="occi_ushort")
    bomb = np.frombuffer(zlib.compress(bytes(20_000_000), 9), np.uint8)
    bomb = bomb[: len(bomb) // 2 * 2].view("<u2")
    sens_write.write(tmp_path / "a.sens", header, [(np.eye(4), jpeg(1), bomb)])
    data = bytearray((tmp_path / "a.sens").read_bytes())
    data[27 + 260] = 1  # zlib_ushort
    (tmp_path / "a.sens").write_bytes(data)
    with Sens(tmp_path / "a.sens") as sens, pytest.raises(SensError, match="not 96"):
        next(sens.frames()).depth()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[int, bytes, bytes]]]:
    """A small file and its frames: offset, colour payload, depth."""
    path = small(tmp_path_factory.mktemp("sens") / "a.sens", 4)
    with Sens(path) as sens:
        frames = [(f.offset, f.color_payload(), f.depth().tobytes()) for f in sens.frames()]
    return path.read_bytes(), frames


def walk(path: Path) -> list[tuple[int, bytes, bytes]]:
    """Frames until the first error."""
    seen = []
    try:
        with Sens(path) as sens:
            for frame in sens.frames():
                seen.append((frame.offset, frame.color_payload(), frame.depth().tobytes()))
            sens.imu()
    except SensError as error:
        assert str(path) in str(error)
    return seen


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_truncated_anywhere(
    whole: tuple[bytes, list[tuple[int, bytes, bytes]]], tmp_path: Path, data: st.DataObject
) -> None:
    content, frames = whole
    (tmp_path / "a.sens").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    seen = walk(tmp_path / "a.sens")
    assert seen == frames[: len(seen)]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_flipped_bit_never_shifts_a_frame(
    whole: tuple[bytes, list[tuple[int, bytes, bytes]]], tmp_path: Path, data: st.DataObject
) -> None:
    content, frames = whole
    # Half of the flips hit a record, which decides where everything after it is looked for.
    record = data.draw(st.sampled_from([None, *range(len(frames))]))
    first, last = 0, len(content) - 1
    if record is not None:
        first = frames[record][0] + 80
        last = first + FRAME.size - 81
    place, bit = data.draw(st.integers(first, last)), data.draw(st.integers(0, 7))
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit
    (tmp_path / "a.sens").write_bytes(flipped)
    for (offset, color, depth), (o, c, d) in zip(walk(tmp_path / "a.sens"), frames, strict=False):
        assert offset == o and depth == d
        inside = place - offset - FRAME.size
        assert color == c or (
            0 <= inside < len(c)
            and color[:inside] + color[inside + 1 :] == c[:inside] + c[inside + 1 :]
        )
