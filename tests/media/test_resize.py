"""Resize specifications: what they do, which can be stored, which are refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from vireo.errors import VireoError
from vireo.media import resize

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


def test_short_side_and_centre_crop():
    spec = {"library": "cv2", "interpolation": "bilinear", "size": 45, "fit": "short"}
    assert resize.make(spec)(PICTURE).shape == (45, 80, 3)
    assert resize.make(spec)(PICTURE.transpose(1, 0, 2)).shape == (80, 45, 3)
    cropped = resize.make({**spec, "crop": "center"})(PICTURE)
    assert np.array_equal(cropped, cv2.resize(PICTURE, (80, 45))[:, 18:63])


def test_pillow():
    spec = {"library": "pil", "interpolation": "bicubic", "antialias": True, "size": [20, 30]}
    expected = np.asarray(Image.fromarray(PICTURE).resize((30, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(resize.make(spec)(PICTURE), expected)


def test_doing_it_twice_changes_nothing():
    once = resize.make({"library": "cv2", "size": 50})
    assert np.array_equal(once(once(PICTURE)), once(PICTURE))


def test_only_uint8_resizes_are_stored():
    assert resize.storable({"library": "cv2", "interpolation": "bilinear", "size": 224})
    assert not resize.storable({"library": "torch", "interpolation": "bicubic", "antialias": False})
    assert not resize.storable(None)
    assert resize.before_store({"library": "torch", "size": 224}) is None
    assert np.array_equal(resize.make(None)(PICTURE), PICTURE)
    with pytest.raises(VireoError, match="transform"):
        resize.make({"library": "torch", "size": 224})(PICTURE)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ({"library": "cv"}, "did you mean 'cv2'"),
        ({"library": "cv2", "interpolation": "bilinaer"}, "did you mean 'bilinear'"),
        ({"library": "cv2", "sise": 3}, "did you mean 'size'"),
        ({"library": "cv2", "antialias": True}, "never antialiases"),
        ({"library": "pil", "antialias": False}, "always antialiases"),
        ({"library": "cv2", "fit": "long"}, "fit"),
        ({"library": "cv2", "crop": "left"}, "crop"),
    ],
    ids=json.dumps,
)
def test_what_cannot_be_done_is_refused(spec, match):
    with pytest.raises(VireoError, match=match):
        resize.check(spec)


def test_size_must_be_known():
    with pytest.raises(VireoError, match="size"):
        resize.make({"library": "cv2"})(PICTURE)


def test_bytes_per_frame():
    assert resize.bytes_per_frame({"library": "cv2", "size": 224}, 720, 1280) == 224 * 224 * 3
    spec = {"library": "cv2", "size": 45, "fit": "short"}
    assert resize.bytes_per_frame(spec, 90, 160) == 45 * 80 * 3
    assert resize.bytes_per_frame({**spec, "crop": "center"}, 90, 160) == 45 * 45 * 3
    assert resize.bytes_per_frame(None, 90, 160) == 90 * 160 * 3


def test_authors_resize():
    data = load_file(Path(__file__).parents[1] / "golden/viclip/misc.safetensors")
    frame = np.ascontiguousarray(data["cv2.input_bgr_uint8_HWC"][:, :, ::-1])
    shrink = resize.make({"library": "cv2", "interpolation": "bilinear", "size": 224})
    assert np.array_equal(shrink(frame), data["cv2.resized224_rgb_uint8_HWC"])
