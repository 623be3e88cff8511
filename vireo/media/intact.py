"""Whether a JPEG or PNG file's bytes are complete and decode without an error.

Most readers fill what is missing with grey or repeat it, without a word; FFmpeg's JPEG decoder says
so when told to. A single changed bit inside the coded data may still pass.
"""

import io

import av
from PIL import Image

JPEG, PNG, END = b"\xff\xd8\xff", b"\x89PNG", b"\xff\xd9"


def why_broken(payload: bytes) -> str | None:
    """Why a picture's bytes are damaged; None when they are sound."""
    if payload.startswith(JPEG):
        if not payload.rstrip(b"\0").endswith(END):
            return "the JPEG ends early or in zeros"
        decoder = av.CodecContext.create("mjpeg", "r")
        decoder.options = {"err_detect": "explode"}
        decoder.thread_count = 1
        try:
            found = [*decoder.decode(av.Packet(payload)), *decoder.decode(None)]
        except (av.error.FFmpegError, ValueError) as error:
            return f"the JPEG's data are damaged ({error})"
        return None if len(found) == 1 and not found[0].is_corrupt else "no picture comes out"
    try:
        with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as picture:
            picture.load()
    except Exception as error:  # bytes from outside may break any step of a decoder
        return f"the picture cannot be decoded ({error})"
    return None
