"""Position tables and inflated convolutions against recorded ones."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.nn import interpolate

MISC = load_file(Path(__file__).parents[1] / "golden" / "viclip" / "misc.safetensors")


@pytest.mark.parametrize(
    ("change", "old"),
    [(interpolate.resize_temporal, "temporal.old_8"), (interpolate.resize_text, "textpos.old_32")],
)
def test_time_and_text(change, old):
    stem = old.split(".")[0] + ".new_"
    targets = [name for name in MISC if name.startswith(stem)]
    assert targets
    for name in targets:
        count = int(name.removeprefix(stem))
        torch.testing.assert_close(change(MISC[old], count), MISC[name], atol=1e-6, rtol=0)


def test_space():
    (old,) = (name for name in MISC if name.startswith("spatial.old_"))
    for name in (name for name in MISC if name.startswith("spatial.new_")):
        got = interpolate.resize_spatial(MISC[old], len(MISC[name]))
        torch.testing.assert_close(got, MISC[name], atol=1e-5, rtol=0)
        assert torch.equal(got[0], MISC[old][0])
    assert interpolate.resize_spatial(MISC[old], len(MISC[old])) is MISC[old]
    with pytest.raises(VireoError, match="square grid"):
        interpolate.resize_spatial(MISC[old], 12)


def test_inflation():
    flat = MISC["inflate.conv2d"]
    assert torch.equal(interpolate.inflate_2d(flat, 1), MISC["inflate.conv3d_k1"])
    assert torch.equal(interpolate.inflate_2d(flat, 3), MISC["inflate.conv3d_k3_center_true"])
    average = interpolate.inflate_2d(flat, 3, centre=False)
    torch.testing.assert_close(average, MISC["inflate.conv3d_k3_center_false"])
