"""How tests/golden/color was made: tagged clips, and what readers of the time make of them.

`python color_goldens.py clips FOLDER` writes the clips (PyAV with libx264, libx265, libvpx);
`python color_goldens.py READER FOLDER` prints one JSON line with the SHA-256 of each clip's RGB in
an environment of its own (READER: av, cv2 or decord). Imports nothing of vireo. The versions used
are the keys of readers.json; near.npz holds two frames of the clips that are only nearly equal.
"""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FRAMES = 80, 64, 2
X265 = {"preset": "ultrafast", "x265-params": "log-level=0:crf=12"}
VPX = {"cpu-used": "8", "deadline": "realtime"}
FULL = {"fmt": "yuvj420p", "full": True}
CLIPS = {
    "h264_untagged.mp4": {},
    "h264_601.mp4": {"matrix": 6},
    "h264_709.mp4": {"matrix": 1},
    "h264_2020.mp4": {"matrix": 9},
    "h264_240m.mp4": {"matrix": 7},
    "h264_fcc.mp4": {"matrix": 4},
    "h264_untagged_full.mp4": FULL,
    "h264_601_full.mp4": {"matrix": 6, **FULL},
    "h264_709_full.mp4": {"matrix": 1, **FULL},
    "h264_709_422.mp4": {"matrix": 1, "fmt": "yuv422p"},
    "h264_709_444.mp4": {"matrix": 1, "fmt": "yuv444p"},
    "h264_untagged_10bit.mp4": {"fmt": "yuv420p10le"},
    "h264_709_10bit.mp4": {"matrix": 1, "fmt": "yuv420p10le"},
    "h264_709_10bit_full.mp4": {"matrix": 1, "fmt": "yuv420p10le", "full": True},
    "hevc_709.mp4": {"codec": "libx265", "matrix": 1, "options": X265},
    "hevc_709_full.mp4": {"codec": "libx265", "matrix": 1, "options": X265, **FULL},
    "hevc_2020_10bit.mp4": {
        "codec": "libx265", "matrix": 9, "fmt": "yuv420p10le", "options": X265,
    },
    "vp9_709.webm": {"codec": "libvpx-vp9", "matrix": 1, "options": VPX},
    "vp9_709_full.webm": {"codec": "libvpx-vp9", "matrix": 1, "full": True, "options": VPX},
    "vp9_untagged_full.webm": {"codec": "libvpx-vp9", "full": True, "options": VPX},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qscale": "3"}},
    "mjpeg.avi": {"codec": "mjpeg", **FULL},
    "ffv1_411.mkv": {"codec": "ffv1", "fmt": "yuv411p"},
    "ffv1_gray.mkv": {"codec": "ffv1", "fmt": "gray"},
    "ffv1_rgb.mkv": {"codec": "ffv1", "fmt": "bgr0"},
}  # fmt: skip


def planes(number, fmt, full):
    """Smooth random planes of one frame, moving with its number."""
    import cv2

    rng = np.random.default_rng(5)
    for channel in range(3):
        ground = rng.integers(0, 256, (9, 11), dtype=np.uint8)
        large = cv2.resize(ground, (WIDTH + 40, HEIGHT + 40), interpolation=cv2.INTER_CUBIC)
        plane = large[3 * number :, 4 * number :][:HEIGHT, :WIDTH].astype(float)
        if not full:
            plane = 16 + plane * (219 if channel == 0 else 224) / 255
        if channel and "444" not in fmt and fmt != "bgr0":
            step = 4 if "411" in fmt else 2
            plane = plane[:: 2 if "420" in fmt else 1, ::step]
        depth = 10 if "10" in fmt else 8
        yield np.round(plane * 2 ** (depth - 8)).astype("<u2" if depth > 8 else np.uint8)


def clip(path, codec="libx264", fmt="yuv420p", matrix=None, full=False, options=None):
    """One clip with a tag; `matrix` FFmpeg's number of the colour space."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, fmt
        stream.codec_context.thread_count = 1
        fast = {"preset": "ultrafast", "qp": "10"} if codec == "libx264" else {}
        stream.options = options or fast
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if full:
            stream.codec_context.color_range = 2
        for number in range(FRAMES):
            frame = av.VideoFrame(WIDTH, HEIGHT, fmt)
            made = list(planes(number, fmt, full))
            if fmt == "bgr0":
                made = [np.stack([*made, made[0]], -1).reshape(HEIGHT, -1)]
            for plane, values in zip(frame.planes, made, strict=False):
                values = values[: plane.height]
                held = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
                held[:, : values.shape[1]] = values
                plane.update(held.tobytes())
            if full:
                frame.color_range = 2
            if matrix is not None:
                frame.colorspace = matrix
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def frames(reader, path):
    """uint8 RGB [T,H,W,3] as a reader gives it."""
    if reader == "av":
        import av

        with av.open(str(path)) as file:
            return np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
    if reader == "cv2":
        import cv2

        capture, found = cv2.VideoCapture(str(path)), []
        while (taken := capture.read())[0]:
            found.append(taken[1][..., ::-1])
        return np.stack(found)
    decord = importlib.import_module("decord")  # of an environment of its own
    video = decord.VideoReader(str(path))
    return np.stack([video[i].asnumpy() for i in range(len(video))])


def sha256(array):
    """Of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def main(what, folder):
    """Write the clips, or print what a reader makes of them."""
    folder = Path(folder)
    if what == "clips":
        for name, settings in CLIPS.items():
            clip(folder / name, **settings)
        return
    found, near = {}, {}
    for name in CLIPS:
        try:
            made = frames(what, folder / name)
        except Exception as error:
            print(name, repr(error)[:100], file=sys.stderr)
            continue
        found[name] = sha256(made)
        if "10bit" in name or "411" in name:
            near[name] = made
    print(json.dumps(found))
    if len(sys.argv) > 3:
        np.savez_compressed(sys.argv[3], **near)


if __name__ == "__main__":
    main(*sys.argv[1:3])
