"""The reference procedures in plain cv2, Pillow and NumPy; imports nothing of vireo.

Run as a program (one decode library per process): python plain.py video.mp4 out.npz
It reads every frame in order, as the demo and the frame extractor do, and keeps for each frame rule
the frame numbers, for each resize the uint8 RGB pictures.
"""

import os
import sys
import tempfile

import cv2
import numpy as np
from PIL import Image


def read_everything(path):
    """(BGR frames, frames per second) as the demo's loop gives them."""
    capture = cv2.VideoCapture(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            return frames, rate
        frames.append(frame)


def extracted(frames, rate, n=32):
    """Frame number per file the extractor leaves in its folder, in the order of names."""
    seg = float(len(frames) - 1) / n
    chosen = [(int(np.round(seg * i)) + int(np.round(seg * (i + 1)))) // 2 for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(len(frames)):
            if number in chosen:
                second = int(number / rate)
                name = f"x_frame_{second // 60:02d}:{second % 60:02d}.jpg"
                with open(os.path.join(folder, name), "w") as file:
                    file.write(str(number))
        return [int(open(os.path.join(folder, f)).read()) for f in sorted(os.listdir(folder))]


def step_rule(numbers, n=8):
    """Every (len // n)-th, n of them; the last repeated where there are too few."""
    step = max(len(numbers) // n, 1)
    chosen = numbers[::step][:n]
    return chosen + [chosen[-1]] * (n - len(chosen))


def middles(count, n=8):
    """Middles of n parts of the video."""
    acc = min(n, count)
    borders = np.linspace(0, count, acc + 1).astype(int)
    chosen = [int((borders[i] + borders[i + 1] - 1) // 2) for i in range(acc)]
    return chosen + [chosen[-1]] * (n - acc)


def rules(frames, rate):
    count = len(frames)
    kept = extracted(frames, rate)
    seg = (count - 1) / 32
    raw = [(round(seg * i) + round(seg * (i + 1))) // 2 for i in range(32)]
    return {
        "uniform_stride": step_rule(list(range(count))),
        "middle": middles(count),
        "slicer": raw,
        "slicer_then_stride": step_rule(kept),
        "slicer_then_stride_all": step_rule(raw),
        "fps2": [i for i in (round((k + 0.5) * rate / 2) for k in range(999)) if i < count],
    }


def rgb(bgr):
    return np.ascontiguousarray(bgr[:, :, ::-1])


RESIZES = {
    "cv2_bilinear_56": lambda f: cv2.resize(f[:, :, ::-1], (56, 56)),
    "cv2_bicubic_48x80": lambda f: cv2.resize(rgb(f), (80, 48), interpolation=cv2.INTER_CUBIC),
    "cv2_area_48": lambda f: cv2.resize(rgb(f), (48, 48), interpolation=cv2.INTER_AREA),
    "pil_bicubic_56": lambda f: np.array(Image.fromarray(rgb(f)).resize((56, 56), Image.BICUBIC)),
    "pil_bilinear_56": lambda f: np.array(Image.fromarray(rgb(f)).resize((56, 56), Image.BILINEAR)),
    "native": rgb,
}


def main(video, out):
    frames, rate = read_everything(video)
    arrays = {}
    for rule, numbers in rules(frames, rate).items():
        arrays[f"indices.{rule}"] = np.array(numbers)
        resizes = RESIZES if rule == "middle" else ("cv2_bilinear_56",)
        for name in resizes:
            arrays[f"frames.{rule}.{name}"] = np.stack([RESIZES[name](frames[i]) for i in numbers])
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
