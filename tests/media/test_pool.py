"""Supervised decoding: whatever one video does to its decoder, it costs that video only."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.media import clips
from vireo.errors import VireoError
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.pool import decode

RULE = {"rule": "middle", "n": 4}
RESIZE = {"library": "cv2", "interpolation": "bilinear", "size": 32}
HOOK = """
import ctypes, os, signal, sys, time
from pathlib import Path
from vireo.errors import VireoError
from vireo.media import decode as decoding

def take(request, max_pixels):
    name = request.video.split("_")[0]
    marker = Path(request.path).with_suffix(".seen")
    if name == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "once" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hang":
        time.sleep(60)
    if name == "hold":
        ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
    if name == "eat":
        held = []
        while True:
            held.append(bytearray(1 << 24))
    if name == "exit":
        os._exit(3)
    if name == "fatal":
        raise VireoError("no video is to blame")
    return decoding.decode_one(request, max_pixels)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    (folder / "hook.py").write_text(HOOK)
    clips.clip(folder / "good.mp4", 20)
    return folder


@pytest.fixture
def hook(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "hook:take"


def requests(folder, names):
    return [DecodeRequest(n, str(folder / "good.mp4"), rule=RULE, resize=RESIZE) for n in names]


def by_name(samples):
    samples = list(samples)
    table = {s.video: s for s in samples}
    assert len(table) == len(samples)
    return table


def test_same_samples_as_in_process(folder):
    wanted = requests(folder, [f"v{i}" for i in range(7)])
    wanted.append(DecodeRequest("gone", None, rule=RULE))
    wanted.append(DecodeRequest("gone2", str(folder / "gone.mp4"), rule=RULE))
    wanted.append(DecodeRequest("text", str(folder / "hook.py"), rule=RULE))
    here = by_name(decode(iter(wanted), {"workers": 0}))
    there = by_name(decode(iter(wanted), {"workers": 2}))
    assert here.keys() == there.keys() == {r.video for r in wanted}
    for name, sample in there.items():
        other = here[name]
        ignore = {"seconds": 0}
        assert sample.facts() | ignore == other.facts() | ignore
        assert sample.request == other.request
        if sample.status == "ok":
            assert np.array_equal(sample.frames, other.frames)
            assert sample.frames.flags.writeable
    assert [there[n].status for n in ("v0", "gone", "gone2", "text")] == [
        *("ok", "missing", "missing", "undecodable")
    ]


def test_crash_hang_and_hunger_cost_one_video_each(folder, hook):
    names = ["segv", "a", "hang", "b", "eat", "c", "exit", "d", "once", "e", "hold", "f"]
    limits = {"workers": 2, "timeout_s": 2.0, "memory_mb": 256}
    store = folder / "store"
    got = by_name(decode(requests(folder, names), limits, store, target=hook))
    assert list(got) and got.keys() == set(names)
    for name in ("a", "b", "c", "d", "e", "f", "once"):
        assert got[name].status == "ok", got[name].error
        assert got[name].frames.shape == (4, 32, 32, 3)
    reasons = {"segv": "SIGSEGV", "exit": "exit code 3", "hang": "2 s", "hold": "2 s", "eat": "MB"}
    for name, reason in reasons.items():
        assert got[name].status == "undecodable"
        assert reason in got[name].error
        assert got[name].frames is None
    again = by_name(decode(requests(folder, names), limits, store, target=hook))
    assert all(s.from_store for s in again.values())


def test_a_mistake_in_the_protocol_is_no_videos_fault(folder, hook):
    with pytest.raises(VireoError, match="no video is to blame"):
        list(decode(requests(folder, ["a", "fatal", "b"]), {"workers": 1}, target=hook))
    with pytest.raises(VireoError, match="did you mean 'middle'"):
        list(decode([DecodeRequest("x", str(folder / "good.mp4"), rule={"rule": "midle"})]))


def test_processes_that_do_not_start_are_an_error(folder):
    with pytest.raises(VireoError, match="do not start"):
        list(decode(requests(folder, ["a"]), {"workers": 1}, target="vireo_no_such_module:take"))


def test_queue_is_bounded(folder):
    asked = []

    def ask():
        for request in requests(folder, [f"v{i}" for i in range(40)]):
            asked.append(request.video)
            yield request

    samples = decode(ask(), {"workers": 2})
    next(samples)
    assert len(asked) <= 8
    assert len(list(samples)) == 39


def children():
    return [p for p in psutil.Process().children() if "vireo.media.worker" in p.cmdline()]


def test_leaving_early_ends_the_children(folder):
    samples = decode(requests(folder, [f"v{i}" for i in range(9)]), {"workers": 2})
    next(samples)
    assert len(children()) == 2
    samples.close()
    assert children() == []


def test_nothing_is_started_when_the_store_has_all(folder, tmp_path):
    wanted = requests(folder, ["a", "b"])
    assert len(list(decode(wanted, {"workers": 0}, tmp_path, pixels=False))) == 2
    samples = decode(wanted, {"workers": 2}, tmp_path)
    first = next(samples)
    assert children() == []
    assert first.from_store and first.frames.shape == (4, 32, 32, 3)
    assert len(list(samples)) == 1


def test_only_the_store_is_filled_without_pixels(folder, tmp_path):
    (sample,) = decode(requests(folder, ["a"]), {"workers": 1}, tmp_path, pixels=False)
    assert sample.status == "ok" and sample.frames is None
    (kept,) = decode(requests(folder, ["a"]), {"workers": 1}, tmp_path)
    assert kept.from_store
    assert np.array_equal(kept.frames, decode_one(requests(folder, ["a"])[0]).frames)


def test_large_answers(folder):
    """More facts than a socket buffer holds, and frames at native size."""
    clips.clip(folder / "many.mp4", 3000, width=32, height=16, gop=100)
    (sample,) = decode([DecodeRequest("many", str(folder / "many.mp4"))], {"workers": 1})
    assert sample.frames.shape == (3000, 16, 32, 3)
    assert sample.indices == list(range(3000))


def test_children_end_when_the_parent_is_killed(folder, hook):
    program = textwrap.dedent(f"""
        from vireo.media.pool import decode
        from vireo.media.decode import DecodeRequest
        made = {str(folder / "good.mp4")!r}
        asked = [DecodeRequest(name, made, rule={RULE!r}) for name in ("a", "hang")]
        for sample in decode(asked, {{"workers": 2, "timeout_s": 60}}, target={hook!r}):
            print(sample.video, flush=True)
    """)
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join([root, str(folder)])}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=env)
    assert parent.stdout.readline().strip() == b"a"
    young = psutil.Process(parent.pid).children()
    assert young
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(young, timeout=10)
    assert alive == []


def test_interrupted_consumer_leaves_nothing_in_shared_memory(folder):
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    samples = decode(requests(folder, [f"v{i}" for i in range(6)]), {"workers": 2})
    next(samples)
    time.sleep(0.1)
    samples.close()
    after = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    assert not {n for n in after - before if "frames" in n}
