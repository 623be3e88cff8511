"""Eight frames of a 15-minute 720p video: index and seek against reading everything.

Claim: at least 10x less CPU time (child processes and imports included) for the same pictures.
The reference is the frame extractor's loop: OpenCV reads every frame and keeps the wanted ones.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np

from vireo.media.decode import DecodeRequest
from vireo.media.pool import decode

ROOT = Path(__file__).resolve().parents[1]
RATE, SCENE_S, N = 30, 60, 8
RULE = {"rule": "slicer", "n": N}
RESIZE = {"library": "cv2", "interpolation": "bilinear", "size": 224}


def scene(path: Path) -> None:
    """A minute of 720p: pans over three textures with moving discs, about 2 Mbit/s."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 24, 40, 3), np.uint8)
    grounds = [cv2.resize(n, (1600, 960), interpolation=cv2.INTER_CUBIC) for n in noise]
    grain = rng.integers(0, 12, (960, 1600, 3), np.uint8)
    with av.open(str(path), "w") as out:
        film: Any = out.add_stream("libx264", rate=RATE)
        film.width, film.height, film.pix_fmt = 1280, 720, "yuv420p"
        film.options = {"preset": "veryfast", "crf": "30", "g": "250"}
        for i in range(RATE * SCENE_S):
            ground = grounds[i * 3 // (RATE * SCENE_S)]
            x, y = i % 300, i % 230
            picture = cv2.add(ground[y : y + 720, x : x + 1280], grain[y : y + 720, x : x + 1280])
            for k in range(6):
                centre = ((i * (k + 3) + 200 * k) % 1280, 100 + 100 * k)
                cv2.circle(picture, centre, 40, (40 * k, 255 - 40 * k, 90), -1)
            out.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(film.encode(None))


def looped(path: Path, minutes: int) -> Path:
    """The minute repeated by stream copy; kept under cache/bench."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        one, joined = Path(folder, "scene.mp4"), Path(folder, "joined.mp4")
        scene(one)
        with av.open(str(joined), "w") as out:
            film = None
            for minute in range(minutes):
                with av.open(str(one)) as source:
                    track = source.streams.video[0]
                    film = film or out.add_stream_from_template(track)
                    shift = int(minute * SCENE_S / track.time_base)
                    for packet in source.demux(track):
                        if packet.pts is not None:
                            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                            packet.stream = film
                            out.mux(packet)
        joined.replace(path)
    return path


def ours(video: str, out: str) -> None:
    """The workflow's way: a supervised child process."""
    (sample,) = decode([DecodeRequest("v", video, rule=RULE, resize=RESIZE)], {"workers": 1})
    assert sample.status == "ok", sample.error
    assert sample.frames is not None
    np.savez(out, frames=sample.frames, indices=sample.indices)


def reference(video: str, out: str) -> None:
    """The extractor's loop."""
    capture = cv2.VideoCapture(video, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    ends = [int(np.round((total - 1) / N * i)) for i in range(N + 1)]
    wanted = [(ends[i] + ends[i + 1]) // 2 for i in range(N)]
    frames, count = [], 0
    while True:
        good, frame = capture.read()
        if not good:
            break
        if count in wanted:
            frames.append(cv2.resize(frame[:, :, ::-1], (224, 224)))
        count += 1
    np.savez(out, frames=np.stack(frames), indices=wanted)


def measured(way: str, video: Path, out: Path) -> float:
    """CPU seconds of a process that does it one way, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, __file__, "--run", way, str(video), str(out)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure both ways, compare the pictures, print one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 minutes of video, claim 2.5x")
    parser.add_argument("--run", nargs=3, metavar=("WAY", "VIDEO", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        {"ours": ours, "reference": reference}[args.run[0]](*args.run[1:])
        return 0
    minutes, claim = (3, 2.5) if args.quick else (15, 10.0)
    video = looped(ROOT / f"cache/bench/loop_{minutes}min_720p.mp4", minutes)
    with tempfile.TemporaryDirectory() as folder:
        outs = {way: Path(folder, f"{way}.npz") for way in ("ours", "reference")}
        seconds = {way: measured(way, video, out) for way, out in outs.items()}
        made = {way: np.load(out) for way, out in outs.items()}
    equal = all(np.array_equal(made["ours"][k], made["reference"][k]) for k in made["ours"])
    ratio = seconds["reference"] / seconds["ours"]
    good = equal and ratio >= claim
    print(f"8 frames of {minutes} min 720p, >= {claim:g}x | ours {seconds['ours']:.2f} CPU s | "
          f"reference {seconds['reference']:.2f} CPU s | {ratio:.1f}x | "
          f"{'equal' if equal else 'NOT EQUAL'} | {'yes' if good else 'NO'}")  # fmt: skip
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
