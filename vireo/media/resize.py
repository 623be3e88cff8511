"""Resizes from uint8 to uint8, as OpenCV and Pillow do them, named by a small specification.

{library: cv2 | pil, interpolation, size: N or [H, W], fit: stretch | short | letterbox (black
borders), crop: center | null}.
Such a resize gives the same bytes whenever it is done, so the frame store may do it. A resize on
floats or tensors (`library: torch`, with or without antialias) belongs to the model's transform:
its frames stay at native size here.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image

from vireo.errors import VireoError, unknown
from vireo.media.mmduet_frames import letterbox

CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
PIL = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
KERNELS: dict[str, dict[str, Any]] = {"cv2": CV2, "pil": PIL}
NATIVE = ("torch", "none")  # resized by the model's transform, or not at all
FITS = ("stretch", "short", "letterbox")
KEYS = ("library", "interpolation", "antialias", "size", "fit", "crop")


def check(spec: dict[str, Any] | None) -> None:
    """Raise VireoError for a specification that names an unknown key, library or kernel."""
    if spec is None:
        return
    for key in spec:
        if key not in KEYS:
            raise unknown("key of a resize", key, KEYS)
    library = str(spec.get("library"))
    if library not in KERNELS and library not in NATIVE:
        raise unknown("resize library", library, [*KERNELS, *NATIVE])
    if library in KERNELS:
        kernel = str(spec.get("interpolation", "bilinear"))
        if kernel not in KERNELS[library]:
            raise unknown(f"interpolation of {library}", kernel, KERNELS[library])
        if spec.get("fit", "stretch") not in FITS:
            raise unknown("fit of a resize", str(spec["fit"]), FITS)
        if spec.get("fit") == "letterbox" and (library, kernel) != ("cv2", "bilinear"):
            raise VireoError(f"resize {spec}: fit letterbox is {{library: cv2}}, bilinear")
        if spec.get("crop") not in (None, "center"):
            raise unknown("crop of a stored resize", str(spec["crop"]), ("center",))
        # What a library cannot do must not be asked of it: the result would carry a false label.
        does = library == "pil"
        if spec.get("antialias", does) is not does:
            raise VireoError(
                f"resize: {library} {'always' if does else 'never'} antialiases;"
                f" write antialias: {str(does).lower()} or choose library: torch"
            )


def storable(spec: dict[str, Any] | None) -> bool:
    """Whether frames may be kept after this resize (uint8 to uint8, same bytes everywhere)."""
    check(spec)
    return spec is not None and spec["library"] in KERNELS


def before_store(spec: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of a protocol's resize that frames get here: all of it, or None (native size)."""
    return spec if storable(spec) else None


def _target(spec: dict[str, Any], height: int, width: int) -> tuple[int, int]:
    size = spec.get("size")
    if size is None:
        raise VireoError(
            f"resize {spec}: `size` is missing (give it there or in the model's block)"
        )
    if spec.get("fit", "stretch") in ("stretch", "letterbox"):
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    short = size if isinstance(size, int) else min(size)
    if height <= width:
        return short, int(short * width / height)
    return int(short * height / width), short


def make(spec: dict[str, Any] | None) -> Callable[[np.ndarray], np.ndarray]:
    """A function uint8 RGB [H,W,3] -> uint8 RGB [H',W',3] for a storable specification.

    None gives the identity. A picture that already has the target size comes back unchanged, so
    doing it twice is harmless.
    """
    if spec is None:
        return lambda picture: picture
    if not storable(spec):
        raise VireoError(f"resize {spec} is done by the model's transform, not on stored frames")
    kernel = KERNELS[spec["library"]][spec.get("interpolation", "bilinear")]

    def resize(picture: np.ndarray) -> np.ndarray:
        height, width = _target(spec, *picture.shape[:2])
        if spec.get("fit") == "letterbox":
            return letterbox(picture, height)
        if picture.shape[:2] != (height, width):
            if spec["library"] == "cv2":
                picture = cv2.resize(picture, (width, height), interpolation=kernel)
            else:
                picture = np.asarray(Image.fromarray(picture).resize((width, height), kernel))
        if spec.get("crop") == "center":
            size = spec["size"]
            high, wide = (size, size) if isinstance(size, int) else size
            top, left = round((height - high) / 2), round((width - wide) / 2)
            picture = picture[top : top + high, left : left + wide]
        return np.ascontiguousarray(picture)

    return resize


def bytes_per_frame(spec: dict[str, Any] | None, height: int, width: int) -> int:
    """Size of one stored frame of a `height` x `width` video."""
    if spec is not None and storable(spec):
        high, wide = _target(spec, height, width)
        if spec.get("crop") == "center":
            size = spec["size"]
            high, wide = (size, size) if isinstance(size, int) else size
        height, width = high, wide
    return 3 * height * width
