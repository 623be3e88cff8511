"""LMDB folders of videos and the mp4 writer of scans."""

import io
import json
import multiprocessing
import os
import threading
from pathlib import Path

import av
import cv2
import lmdb as plain
import numpy as np
import pytest
from PIL import Image

from vireo.errors import VireoError
from vireo.media import lmdb, mp4, pool
from vireo.media.decode import DecodeRequest

GOLDEN = Path(__file__).parents[1] / "golden/clipbert/video"
NAMES = ["scene9001_00", "scene9002_00"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "vis db"
    assert lmdb.write(out, [(name, GOLDEN / f"{name}.mp4") for name in NAMES]) == {}
    return out


def test_values_are_the_files(folder: Path) -> None:
    assert lmdb.value(folder, NAMES[0]) == (GOLDEN / f"{NAMES[0]}.mp4").read_bytes()
    assert lmdb.value(folder, "scene0000_00") is None
    assert json.loads((folder / "vireo.json").read_text())["videos"] == 2
    assert sorted(p.name for p in folder.iterdir()) == ["data.mdb", "lock.mdb", "vireo.json"]


@pytest.mark.parametrize("workers", [0, 1])
def test_frames_are_those_of_the_file(folder: Path, workers: int) -> None:
    rule = {"rule": "sparse_clips"}
    sources = {"lmdb": str(folder), "file": str(GOLDEN / f"{NAMES[1]}.mp4")}
    asked = [DecodeRequest(NAMES[1], path, kind, rule=rule) for kind, path in sources.items()]
    found = {s.request.kind: s for s in pool.decode(asked, {"workers": workers}) if s.request}
    assert found["lmdb"].indices == [0, 19]
    np.testing.assert_array_equal(found["lmdb"].frames, found["file"].frames)


def test_missing_key_empty_value_and_garbage(tmp_path: Path, folder: Path) -> None:
    with plain.open(str(tmp_path / "other"), map_size=1 << 20) as env, env.begin(write=True) as txn:
        txn.put(b"empty", b"")
        txn.put(b"garbage", b"no video at all")
    table = lmdb.find(["empty", "garbage", "gone"], tmp_path / "other").set_index("video")
    assert table["status"].tolist() == ["found", "found", "missing"]
    assert table["size"].tolist() == [0, 15, 0]
    requests = [
        DecodeRequest(n, str(tmp_path / "other"), "lmdb") for n in ("empty", "garbage", "gone")
    ]
    found = {s.video: s for s in pool.decode(requests, {"workers": 0})}
    assert [s.status for s in found.values()] == ["undecodable", "undecodable", "missing"]
    assert "is empty" in str(found["empty"].error)
    with pytest.raises(VireoError, match="cannot be opened as an LMDB"):
        lmdb.value(tmp_path / "nowhere", "x")


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_or_damaged_database_is_named(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    names = [f"scene{n:04d}_00" for n in range(60)]
    with plain.open(str(tmp_path / "whole"), map_size=1 << 24) as env:
        for name in names:
            with env.begin(write=True) as txn:
                txn.put(name.encode(), draw.bytes(int(draw.integers(1, 9000))))
    content = (tmp_path / "whole/data.mdb").read_bytes()
    cut = int(draw.integers(0, len(content)))
    zeros = bytes(len(content) - cut) if seed % 2 else b""
    (tmp_path / "data.mdb").write_bytes(content[:cut] + zeros)
    try:
        found = lmdb.find(names, tmp_path)
        sizes = [len(lmdb.value(tmp_path, name) or b"") for name in names]
    except VireoError as error:
        named = ("is cut short", "is damaged at the key", "cannot be opened as an LMDB")
        assert str(tmp_path) in str(error) and any(what in str(error) for what in named)
    else:  # LMDB has no checksums: zeros within a value are for the decoder to find
        assert zeros and sizes == lmdb.find(names, tmp_path / "whole")["size"].tolist()
        assert found["size"].tolist() == sizes


def test_twice_the_same_scene_and_a_second_write_are_refused(tmp_path: Path, folder: Path) -> None:
    video = GOLDEN / "scene9001_00.mp4"
    with pytest.raises(VireoError, match="'a' occurs twice"):
        lmdb.write(tmp_path / "new", [("a", video), ("a", video)])
    with pytest.raises(VireoError, match="holds an LMDB already"):
        lmdb.write(folder, [("a", video)])


def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    files = [("a", tmp_path / "none.mp4"), ("b", tmp_path / "empty.mp4")]
    failed = lmdb.write(tmp_path / "new", files)
    assert set(failed) == {"a", "b"} and failed["b"] == "the file is empty"


def pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    result = []
    for n in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize((96, 72)).save(out, "JPEG", quality=90)
        result.append(out.getvalue())
        assert n < count
    return result


def test_mp4_is_what_opencv_writes(tmp_path: Path) -> None:
    assert mp4.write(pictures(7), tmp_path / "a.mp4") == 7
    film = cv2.VideoWriter(
        str(tmp_path / "b.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (224, 224)
    )
    for payload in pictures(7):
        picture = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
        film.write(cv2.resize(picture, (224, 224)))
    film.release()
    with av.open(str(tmp_path / "a.mp4")) as ours, av.open(str(tmp_path / "b.mp4")) as theirs:
        stream = ours.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (224, 224, 7)
        assert stream.average_rate == 20 and stream.codec_context.name == "mpeg4"
        assert stream.time_base == theirs.streams.video[0].time_base
        assert stream.duration == 7 * 512 and stream.time_base.denominator == 10240
        for a, b in zip(ours.decode(video=0), theirs.decode(video=0), strict=True):
            np.testing.assert_array_equal(a.to_ndarray(), b.to_ndarray())


def test_broken_pictures_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(VireoError, match="picture number 1"):
        mp4.write([pictures(1)[0], b"no picture"], tmp_path / "a.mp4")
    with pytest.raises(VireoError, match="no pictures"):
        mp4.write([], tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def _read(folder: Path, name: str, out: str) -> None:
    held = lmdb.value(folder, name)
    Path(out).write_bytes(held or b"nothing")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_read_what_the_parent_has_open(folder: Path, tmp_path: Path, method: str) -> None:
    """A child of a process that reads the folder reads it too, and the parent goes on reading."""
    assert lmdb.find(NAMES, folder)["status"].tolist() == ["found", "found"]
    assert lmdb.value(folder, NAMES[0])
    outs = [str(tmp_path / f"{method}{i}") for i in range(2)]
    context = multiprocessing.get_context(method)
    children = [context.Process(target=_read, args=(folder, NAMES[1], out)) for out in outs]
    for child in children:
        child.start()
        assert lmdb.value(folder, NAMES[0])  # opened again between two forks
    for child in children:
        child.join()
    wanted = lmdb.value(folder, NAMES[1])
    assert [Path(out).read_bytes() for out in outs] == [wanted] * 2


def test_one_folder_by_two_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert lmdb.value(folder, NAMES[0]) == lmdb.value(tmp_path / "link", NAMES[0])


def test_a_fork_waits_for_reads_of_other_threads(folder: Path) -> None:
    """A fork closes the environment; reads in threads never lose it half-way."""
    stop, problems = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                assert lmdb.value(folder, NAMES[0])
            except Exception as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        child = os.fork()
        if not child:
            os._exit(0 if lmdb.value(folder, NAMES[1]) else 1)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
