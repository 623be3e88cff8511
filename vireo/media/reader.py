"""How a protocol's reader turns a file into pictures and rates: all that readers differ in.

A protocol writes it as `frames: {rule: …, reader: {matrix: bt601, …}}`. The values of the authors'
readers, by version, are in docs/parity.md; nothing here is left to a library's default.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from vireo.errors import VireoError, unknown

CHOICES: dict[str, tuple[str, ...]] = {
    "matrix": ("tagged", "bt601"),
    "range": ("tagged", "pixel_format"),
    "chroma": ("tagged", "center"),
    "kernel": ("bilinear", "bicubic"),
    "rate": ("average", "nominal"),
    "orientation": ("angle", "matrix"),
    "short": ("accept", "refuse"),
}
# OpenCV 4.9 to 4.12, which the Video-MME guide and MMDuet (4.10.0.84) read with.
OPENCV: dict[str, Any] = {
    "matrix": "bt601",
    "range": "pixel_format",
    "chroma": "center",
    "kernel": "bicubic",
}
# PyAV of ClipBERT's time. decord, the reader of ViCLIP and VideoMamba, follows the tags.
PYAV: dict[str, Any] = {"matrix": "bt601", "range": "pixel_format", "chroma": "center"}
DEFAULT_QUALITY = 95  # cv2.imwrite's


@dataclass(frozen=True)
class Reader:
    """One reader's choices; the defaults are the correct ones for a file that is tagged right.

    `matrix`: YUV -> RGB by the stream's tag (BT.601 without one), or BT.601 whatever it says.
    `range`: limited or full by the tag, or full only for FFmpeg's yuvj formats. `chroma`: where
    subsampled colour lies, `kernel` how it is interpolated; 8-bit 4:2:0, 4:2:2 and 4:4:4 do not
    depend on either. `rate`: frames a second that clocks count by. `orientation`: turned by
    the display matrix's angle, or mirrored too where it says so. `jpeg`: quality of a JPEG file
    that every frame goes through, None = none. `short`: what to do with a file that ends before
    its header says.
    """

    matrix: str = "tagged"
    range: str = "tagged"
    chroma: str = "tagged"
    kernel: str = "bilinear"
    rate: str = "average"
    orientation: str = "angle"
    jpeg: int | None = None
    short: str = "accept"

    def resolved(self) -> dict[str, Any]:
        """All choices, for keys and records."""
        return asdict(self)


def of(rule: dict[str, Any]) -> Reader:
    """The reader that a protocol's `frames` block names. VireoError for an unknown choice."""
    given = rule.get("reader") or {}
    names = [field.name for field in fields(Reader)]
    if not isinstance(given, dict):
        raise VireoError(f"reader of the frame rule: {given!r} is no mapping of {', '.join(names)}")
    for key, value in given.items():
        if key not in names:
            raise unknown("key of the frame rule's reader", key, names)
        if key == "jpeg":
            right = value is None or (type(value) is int and 1 <= value <= 100)
            if not right:
                raise VireoError(f"reader: jpeg: {value!r} is no quality from 1 to 100")
        elif value not in CHOICES[key]:
            raise unknown(f"reader's {key}", str(value), CHOICES[key])
    return Reader(**given)
