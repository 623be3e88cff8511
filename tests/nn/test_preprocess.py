"""Both preprocessing procedures against recorded tensors."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.nn.preprocess import Preprocess

MISC = load_file(Path(__file__).parents[1] / "golden" / "viclip" / "misc.safetensors")
FRAMES = np.zeros((1, 5, 7, 3), np.uint8)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def torch_view(antialias):
    return {"resize": {"library": "torch", "interpolation": "bicubic", "antialias": antialias}}


@pytest.mark.parametrize("antialias", [False, True])
def test_torch_bicubic(antialias):
    frames = MISC["transform.input_uint8_TCHW"].permute(0, 2, 3, 1).numpy()
    expected = MISC[f"transform.resized_uint8_antialias_{str(antialias).lower()}"]
    transform = Preprocess(MEAN, STD, expected.shape[-1])
    view = torch_view(antialias)
    got = transform.resize(frames, view["resize"])
    difference = got.astype(int) - expected.permute(0, 2, 3, 1).numpy()
    assert abs(difference).max() <= 1  # other processors may round the other way at .5
    assert (difference != 0).mean() < 1e-3
    if not antialias:
        resized = expected.permute(0, 2, 3, 1).numpy()
        first = MISC["transform.normalized_frame0_antialias_false"]
        assert torch.equal(transform(resized, view)[0], first)


def test_cv2_bilinear():
    bgr = MISC["cv2.input_bgr_uint8_HWC"].numpy()
    expected = MISC["cv2.resized224_rgb_uint8_HWC"].numpy()
    got = Preprocess(MEAN, STD, 224).resize(bgr[None, ..., ::-1], {"library": "cv2"})
    assert np.array_equal(got[0], expected)


def test_the_tables_are_the_arithmetic():
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    transform = Preprocess(MEAN, STD, 9)
    wide = ((frames / 255.0 - np.array(MEAN)) / np.array(STD)).astype(np.float32)
    assert np.array_equal(transform(frames, {}).numpy(), wide.transpose(0, 3, 1, 2))
    scaled = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    assert torch.equal(transform(frames, torch_view(False)), (scaled - mean) / std)


def test_the_protocol_may_name_a_size_and_a_crop():
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    transform = Preprocess(MEAN, STD, 8)
    spec = {"library": "pil", "interpolation": "bicubic", "fit": "short", "crop": "center"}
    assert transform(frames, {"resize": spec}).shape == (2, 3, 8, 8)
    assert transform(frames, {"resize": {"library": "torch", "size": [6, 4]}}).shape == (2, 3, 6, 4)
    assert transform(frames, {"resize": {"library": "none"}}).shape == (2, 3, 20, 30)


def test_it_travels_to_loader_workers():
    transform = Preprocess(MEAN, STD, 4)
    assert torch.equal(pickle.loads(pickle.dumps(transform))(FRAMES), transform(FRAMES))


@pytest.mark.parametrize(
    ("frames", "resize", "message"),
    [
        (np.zeros((1, 5, 7, 3), np.float32), None, "uint8"),
        (np.zeros((5, 7, 3), np.uint8), None, "uint8"),
        (FRAMES, {"library": "pill"}, "did you mean 'pil'"),
        (FRAMES, {"library": "cv2", "interpolation": "bilinaer"}, "did you mean 'bilinear'"),
        (FRAMES, {"library": "torch", "interpolation": "box"}, "interpolation of torch"),
        (FRAMES, {"library": "torch", "fit": "short"}, "straight to the size"),
    ],
)
def test_wrong_input_is_named(frames, resize, message):
    with pytest.raises(VireoError, match=message):
        Preprocess(MEAN, STD, 4)(frames, {"resize": resize})
