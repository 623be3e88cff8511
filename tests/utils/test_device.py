"""Names of devices and precisions; float32 is IEEE."""

import pytest
import torch

from vireo.errors import VireoError
from vireo.utils import device as D


def test_words_for_devices_and_dtypes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert D.resolve_device("auto") == "cpu"
    with pytest.raises(VireoError, match="no GPU"):
        D.resolve_device("cuda")
    with pytest.raises(VireoError, match="did you mean 'cuda'"):
        D.resolve_device("cuda0")
    assert D.dtype("bfloat16") is torch.bfloat16
    with pytest.raises(VireoError, match="did you mean 'float16'"):
        D.dtype("float_16")


def test_float32_is_ieee_unless_tf32_is_asked_for():
    for tf32 in (True, False):
        D.set_precision(tf32)
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
