"""Colour frames out of a ScanNet file: payloads copied against decoded and encoded again.

Claims, in one process: all frames >= 5x less CPU time than ScanNet's Python procedure (read the
file, decode every JPEG, encode it again); every 20th >= 10x less than all; JPEG bytes those of the
file; peak memory grows by less than 50 MB.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from vireo.media import sens_export, sens_write
from vireo.media.sens import Sens

ROOT = Path(__file__).resolve().parents[1]


def generated(path: Path, frames: int) -> Path:
    """A scan of ScanNet's sizes with JPEGs of about 300 KB; kept under cache/bench."""
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (60, 80, 3), np.uint8)
    picture = cv2.resize(coarse, (1400, 1000), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, rng.integers(0, 24, picture.shape, np.uint8))
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    colors = [
        cv2.imencode(".jpg", picture[k : k + 968, 3 * k : 3 * k + 1296], quality)[1].tobytes()
        for k in range(12)
    ]
    depth = cv2.resize(rng.integers(500, 4000, (24, 32)).astype(np.uint16), (640, 480))
    head = sens_write.header((1296, 968), (640, 480))
    rows = ((np.eye(4, dtype=np.float32), colors[n % 12], depth) for n in range(frames))
    sens_write.write(path, head, rows)
    return path


def reference(path: Path, out: Path) -> None:
    """ScanNet's Python procedure: every payload in memory, decoded, encoded again."""
    with Sens(path) as sens:
        payloads = [(f.color_payload(), f.file.read(f.end - f.depth_bytes, f.depth_bytes, "depth"))
                    for f in sens.frames()]  # fmt: skip
    for number, (color, _) in enumerate(payloads):
        picture = cv2.imdecode(np.frombuffer(color, np.uint8), cv2.IMREAD_COLOR)
        cv2.imwrite(str(out / f"{number}.jpg"), picture)


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Measure, compare the bytes, print one row per claim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 frames instead of 300")
    count = 60 if parser.parse_args().quick else 300
    path = generated(ROOT / f"cache/bench/scan_{count}.sens", count)
    seconds = {}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        before = peak_mb()
        for name, stride in (("all", 1), ("20th", 20)):
            began = time.process_time()
            sens_export.export(path, Path(folder, name), ["color"], stride)
            seconds[name] = time.process_time() - began
        memory = peak_mb() - before
        with Sens(path) as sens:
            equal = all(
                Path(folder, name, f"frame-{f.index:06d}.color.jpg").read_bytes()
                == f.color_payload()
                for name, stride in (("all", 1), ("20th", 20))
                for f in sens.frames(stride)
            )
        Path(folder, "reference").mkdir()
        began = time.process_time()
        reference(path, Path(folder, "reference"))
        seconds["reference"] = time.process_time() - began
    faster, skipping = seconds["reference"] / seconds["all"], seconds["all"] / seconds["20th"]
    good = [equal and faster >= 5, equal and skipping >= 10 and memory < 50]
    print(
        f".sens, all {count} frames, >= 5x | ours {seconds['all']:.3f} CPU s | "
        f"reference {seconds['reference']:.2f} CPU s | {faster:.1f}x | "
        f"{'equal' if equal else 'NOT EQUAL'} | {'yes' if good[0] else 'NO'}"
    )
    print(
        f".sens, every 20th frame, >= 10x | ours {seconds['20th']:.4f} CPU s | "
        f"all {seconds['all']:.3f} CPU s | {skipping:.1f}x | memory +{memory:.0f} MB | "
        f"{'yes' if good[1] else 'NO'}"
    )
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
