"""ScanNet scans -> the videos of SQA3D: every 20th colour frame, 224 x 224, mp4v at 20 fps.

Each scan is read in a supervised child process (vireo.media.pool), so that a damaged one costs
itself only. `status.json` beside the videos says what became of each scene; scenes that are done
and whose scan is unchanged are not made again.
"""

import logging
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.media import inventory, mp4, pool
from vireo.media.decode import DecodedClip, DecodeRequest, stat
from vireo.media.intact import why_broken
from vireo.media.sens import Sens, SensError
from vireo.media.sens_export import color_file
from vireo.utils.cli import Progress
from vireo.utils.files import read_json, write_json

log = logging.getLogger("vireo")

EVERY = 20
STATUS = "status.json"
TERMS = "accept_terms"
Status = dict[str, dict[str, Any]]


def convert(request: DecodeRequest, max_pixels: int) -> DecodedClip:
    """One scan (`request.path`) -> the mp4 file `request.rule["out"]`; runs in a child process.

    The sample has no frames; its `info` counts sensor frames, written frames, lost poses and
    damaged pictures among the written ones.
    """
    assert request.path is not None
    source = stat(request.path)
    counts = {"sensor_frames": 0, "frames": 0, "lost": 0, "damaged": 0}
    try:
        with Sens(request.path) as sens:
            width, height = sens.header.color_size
            if width * height > max_pixels:
                raise SensError(f"{request.path}: {width}x{height} pixels (decode.max_pixels)")
            counts["sensor_frames"] = sens.header.frames

            # parity: frames whose tracking was lost are kept | SQA3D's videos hold frames without a
            # pose | none
            shown = _pictures(sens, request.rule["every"], counts)
            counts["frames"] = mp4.write(shown, request.rule["out"])
    except VireoError as error:
        return DecodedClip(
            request.video, "undecodable", error=str(error), source=source, request=request
        )
    return DecodedClip(request.video, "ok", source=source, info=counts, request=request)


def _pictures(sens: Sens, every: int, counts: dict[str, int]) -> Iterator[bytes]:
    """Every so many colour pictures; a damaged one as OpenCV shows it, else its neighbour again."""
    last: bytes | None = None
    waiting = 0  # pictures before the first that can be shown
    for frame in sens.frames():
        counts["lost"] += frame.lost
        if frame.index % every:
            continue
        try:
            payload: bytes | None = color_file(frame)
            broken = why_broken(payload or b"") is not None
        except SensError:
            payload, broken = None, True
        counts["damaged"] += broken
        if broken and (payload is None or mp4.decoded(payload) is None):
            if last is None:
                waiting += 1
            else:
                yield last
            continue
        assert payload is not None
        last = payload
        yield from [payload] * (waiting + 1)
        waiting = 0


def make(
    scenes: Iterable[str],
    scans: Path,
    out: Path,
    limits: dict[str, Any] | None = None,
    every: int = EVERY,
) -> Status:
    """Videos `<out>/<scene>.mp4` of scenes whose `<scene>.sens` lies anywhere below `scans`.

    Returns and writes scene -> status (ok, missing, undecodable) with counts or the error.
    """
    table = inventory.find(scenes, scans, ["{id}.sens"])
    status = _known(out)
    requests = []
    for row in table.itertuples():
        scene, video = str(row.video), out / f"{row.video}.mp4"
        if row.status != "found":
            if not (status.get(scene, {}).get("removed") and video.exists()):
                video.unlink(missing_ok=True)
                status[scene] = {"status": "missing", "error": f"no {scene}.sens below {scans}"}
            continue
        old = status.get(scene, {})
        if (old.get("source"), old.get("every")) == ([row.size, row.mtime_ns], every) and (
            old["status"] != "ok" or video.exists()
        ):
            continue
        video.unlink(missing_ok=True)
        rule = {"rule": "scan", "out": str(video), "every": every}
        requests.append(DecodeRequest(scene, str(row.path), rule=rule))
    target = "vireo.media.scans:convert"
    with Progress(len(requests), "scans", "scan") as bar:
        for sample in pool.decode(requests, limits, pixels=False, target=target):
            status[sample.video] = _entry(sample, every)
            write_json(out / STATUS, status)
            bar.update()
    write_json(out / STATUS, status)
    _tell(status)
    return status


def _known(out: Path) -> Status:
    out.mkdir(parents=True, exist_ok=True)
    return read_json(out / STATUS) if (out / STATUS).exists() else {}


def _entry(sample: DecodedClip, every: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"status": sample.status, **sample.info, "every": every}
    if sample.source:
        entry["source"] = [sample.source["size"], sample.source["mtime_ns"]]
    return entry | ({"error": sample.error} if sample.error else {})


def _tell(status: Status) -> None:
    counts = Counter(entry["status"] for entry in status.values())
    log.info("scans: %s", ", ".join(f"{n} {name}" for name, n in sorted(counts.items())))
    for scene, entry in status.items():
        if entry["status"] != "ok":
            log.warning("%s: %s", scene, entry.get("error"))
        elif entry.get("damaged"):
            told = scene, entry["damaged"], entry["frames"]
            log.warning("%s: %d of its %d pictures are damaged; get the scan again", *told)


def download(
    scenes: Iterable[str],
    out: Path,
    settings: dict[str, Any],
    limits: dict[str, Any] | None = None,
    every: int = EVERY,
) -> Status:
    """The same with ScanNet's own download script, one scene after the other.

    `settings`: `script` (the file that ScanNet sent to the user), `accept_terms: true`, `keep`
    (a folder for the scans; without it each is removed when its video is made).
    """
    script = Path(str(settings.get("script"))).expanduser()
    if settings.get(TERMS) is not True:
        raise VireoError(
            "ScanNet may be downloaded only by people who have signed its terms of use. If you "
            f"have, write `{TERMS}: true` beside `script` in the benchmark's options"
        )
    if not script.is_file():
        raise VireoError(f"no download script at {script}: ScanNet sends it to those who sign")
    scenes = list(dict.fromkeys(scenes))
    inventory.refuse_paths(scenes)
    keep = settings.get("keep")
    for scene in scenes:
        done = _known(out).get(scene, {})
        if done.get("status") == "ok" and (out / f"{scene}.mp4").exists():
            continue
        folder = Path(keep).expanduser() if keep else Path(tempfile.mkdtemp(dir=out))
        try:
            if not inventory.find([scene], folder, ["{id}.sens"])["path"].notna().all():
                _fetch(script, scene, folder)
            made = make([scene], folder, out, limits, every)
            if made[scene]["status"] == "ok" and not keep:
                made[scene]["removed"] = True
                write_json(out / STATUS, made)
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
    return _known(out)


def _fetch(script: Path, scene: str, folder: Path) -> None:
    """Run the user's script; it asks for a key to confirm the terms, which the config has done."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(script), "-o", str(folder), "--id", scene, "--type", ".sens"]
    run = subprocess.run(command, input="\n" * 4, text=True, capture_output=True)
    if run.returncode:
        last = (run.stderr or run.stdout).strip().splitlines()[-1:]
        log.warning("%s: %s ended with %d: %s", scene, script.name, run.returncode, last)
