"""Scans to videos: every 20th frame, broken and missing scans, resuming, the user's own script."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vireo.errors import VireoError
from vireo.media import scans, sens_export, sens_write
from vireo.media.sens import FRAME, Sens, SensError
from vireo.media.video import Video

HOME = Path(__file__).resolve().parents[2]
GOLDEN = HOME / "tests/golden/clipbert"


def scan(path: Path, count: int = 45) -> Path:
    """A scan whose pictures get brighter with their number; frame 3 has no pose."""

    def color(n: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), 5 * n % 256, np.uint8)).save(out, "JPEG")
        return out.getvalue()

    path.parent.mkdir(parents=True, exist_ok=True)
    lost = np.full((4, 4), -np.inf)
    rows = (
        (lost if n == 3 else np.eye(4), color(n), np.ones((6, 8), np.uint16)) for n in range(count)
    )
    sens_write.write(path, sens_write.header((64, 48), (8, 6)), rows)
    return path


def brightness(video: Path) -> list[int]:
    with Video(video) as film:
        frames = film.read(range(film.index.F)).frames
    return [round(float(frame.mean()) / 5) for frame in frames]


def test_every_twentieth_frame_and_a_status_per_scene(tmp_path: Path) -> None:
    folder, out = tmp_path / "scans", tmp_path / "out"
    scan(folder / "scene0000_00/scene0000_00.sens")
    whole = scan(folder / "scene0001_00/scene0001_00.sens").read_bytes()
    (folder / "scene0001_00/scene0001_00.sens").write_bytes(whole[: len(whole) // 2])
    names = ["scene0000_00", "scene0001_00", "scene0002_00"]
    status = scans.make(names, folder, out, {"workers": 1})
    assert brightness(out / "scene0000_00.mp4") == pytest.approx([0, 20, 40], abs=1)
    assert [status[n]["status"] for n in names] == ["ok", "undecodable", "missing"]
    first = status["scene0000_00"]
    assert (first["sensor_frames"], first["frames"], first["lost"]) == (45, 3, 1)
    assert "frame 2" in status["scene0001_00"]["error"]
    assert sorted(p.name for p in out.iterdir()) == ["scene0000_00.mp4", "status.json"]
    assert json.loads((out / "status.json").read_text()) == status


def test_only_what_has_changed_is_made_again(tmp_path: Path) -> None:
    folder, out = tmp_path / "scans", tmp_path / "out"
    path = scan(folder / "a/scene0000_00.sens", 5)
    limits = {"workers": 1}
    scans.make(["scene0000_00"], folder, out, limits)
    before = (out / "scene0000_00.mp4").stat().st_mtime_ns
    scans.make(["scene0000_00"], folder, out, limits)
    assert (out / "scene0000_00.mp4").stat().st_mtime_ns == before
    scan(path, 25)
    scans.make(["scene0000_00"], folder, out, limits)
    assert len(brightness(out / "scene0000_00.mp4")) == 2
    path.unlink()
    assert scans.make(["scene0000_00"], folder, out, limits)["scene0000_00"]["status"] == "missing"
    assert not (out / "scene0000_00.mp4").exists()


SCRIPT = """
import argparse, pathlib, shutil
parser = argparse.ArgumentParser()
parser.add_argument("-o"), parser.add_argument("--id"), parser.add_argument("--type")
args = parser.parse_args()
input("press any key")
assert args.type == ".sens"
if args.id == "scene0009_00":
    raise SystemExit("ERROR: invalid scan id")
place = pathlib.Path(args.o, "scans", args.id)
place.mkdir(parents=True)
shutil.copy(pathlib.Path(__file__).with_name("any.sens"), place / f"{args.id}.sens")
"""


@pytest.mark.parametrize("keep", [False, True])
def test_the_users_own_download_script(tmp_path: Path, keep: bool) -> None:
    (tmp_path / "download.py").write_text(SCRIPT)
    scan(tmp_path / "any.sens", 21)
    settings = {"script": str(tmp_path / "download.py"), "accept_terms": True}
    settings |= {"keep": str(tmp_path / "kept")} if keep else {}
    names = ["scene0000_00", "scene0009_00"]
    for _ in range(2):
        status = scans.download(names, tmp_path / "out", settings, {"workers": 1})
        assert [status[n]["status"] for n in names] == ["ok", "missing"]
    assert len(brightness(tmp_path / "out/scene0000_00.mp4")) == 2
    assert len(list(tmp_path.rglob("scene0000_00.sens"))) == keep
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".mp4", ".json"}


def test_terms_must_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(VireoError, match="accept_terms: true"):
        scans.download(["a"], tmp_path, {"script": "x"})
    with pytest.raises(VireoError, match="no download script"):
        scans.download(["a"], tmp_path, {"script": "x", "accept_terms": True})
    with pytest.raises(VireoError, match="plain name"):
        script = {"script": __file__, "accept_terms": True}
        scans.download(["../a"], tmp_path, script)


def test_the_command_makes_clipberts_folders(tmp_path: Path, monkeypatch) -> None:
    from vireo.fetch import receipt
    from vireo.media import lmdb

    for name in ("scene9001_00", "scene9003_00"):
        scan(tmp_path / f"scans/{name}/{name}.sens", 21)
    roots = {"questions": GOLDEN / "sqa3d/sqa_task", "scans": tmp_path / "scans"}
    monkeypatch.chdir(tmp_path)  # roots below the working directory are relative to it
    for name, root in roots.items():
        receipt.write(tmp_path / f"{name}.json", name, root, {}, "test")
    (tmp_path / "own.yaml").write_text("benchmarks: {sqa3d: {rows: {test: 30}}}\n")
    command = [sys.executable, HOME / "scripts/scans.py", "sqa3d", "--config", "own.yaml"]
    for name in roots:
        command += [f"--{name}", f"{name}.json"]
    command += ["--out", "made", "--receipt", "r.json", "--workers", "1", "--clipbert"]
    env = {k: v for k, v in os.environ.items() if k != "VIREO_CONFIG"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "2 missing, 2 ok" in run.stderr
    root = Path(receipt.read(tmp_path / "r.json")["root"])
    assert sorted(p.stem for p in root.glob("*.mp4")) == ["scene9001_00", "scene9003_00"]
    assert lmdb.value(tmp_path / "made/vis_db/sqa", "scene9001_00")
    assert (tmp_path / "made/txt_db/sqa/test.jsonl").exists()


def frames_of(path: Path) -> list:
    with Sens(path) as sens:
        return list(sens.frames())


def test_damaged_pictures_are_counted_and_cost_no_frame(tmp_path: Path) -> None:
    """Zeros from 60 % of a picture on, a wrong first byte, a hole: each counted, none dropped."""
    path = scan(tmp_path / "scans/scene0000_00.sens", 101)
    data, frames = bytearray(path.read_bytes()), frames_of(path)
    spots = {n: (frames[n].offset + FRAME.size, frames[n].color_bytes) for n in (0, 20, 40, 60, 80)}
    at, size = spots[20]
    data[at + size * 6 // 10 : at + size] = bytes(size - size * 6 // 10)
    at, size = spots[60]
    data[at] ^= 1
    at, size = spots[80]
    data[at + size - 40 : at + size - 10] = bytes(30)
    path.write_bytes(data)
    status = scans.make(["scene0000_00"], tmp_path / "scans", tmp_path / "out", {"workers": 1})
    entry = status["scene0000_00"]
    assert (entry["status"], entry["frames"], entry["damaged"]) == ("ok", 6, 3)
    seen = brightness(tmp_path / "out/scene0000_00.mp4")
    assert [seen[i] for i in (0, 2, 3, 5)] == pytest.approx([0, 40, 40, 49], abs=1)
    done = subprocess.run(
        [sys.executable, str(HOME / "scripts/sens.py"), "info", "--verify", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "damaged pictures and depth maps: 3" in done.stdout and "frame 80" in done.stdout


def test_one_wrong_byte_of_depth_costs_that_depth_only(tmp_path: Path) -> None:
    path = scan(tmp_path / "scans/scene0000_00.sens")
    data, frames = bytearray(path.read_bytes()), frames_of(path)
    for n in (7, 44):  # in the middle, and the last one before the IMU records
        data[frames[n].offset + FRAME.size + frames[n].color_bytes] ^= 255
    path.write_bytes(data)
    status = scans.make(["scene0000_00"], tmp_path / "scans", tmp_path / "out", {"workers": 1})
    entry = status["scene0000_00"]
    assert (entry["status"], entry["frames"], entry["damaged"]) == ("ok", 3, 0)
    sens_export.export(path, tmp_path / "color", ["color", "pose"])
    assert len(list((tmp_path / "color").iterdir())) == 90
    with pytest.raises(SensError, match=r"frame 7, byte .* depth"):
        sens_export.export(path, tmp_path / "depth", ["depth"])
