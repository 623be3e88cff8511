"""Which device a job computes on, and with what precision."""

from typing import Any

from vireo.errors import VireoError, unknown

DTYPES = ("float32", "bfloat16", "float16")


def dtype(name: str) -> Any:
    """`torch.dtype` of "float32", "bfloat16" or "float16"; VireoError otherwise."""
    import torch

    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return getattr(torch, name)


def set_precision(tf32: bool) -> None:
    """float32 means IEEE float32: TF32 off in matrix products and cuDNN unless `tf32`."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def resolve_device(wanted: str) -> str:
    """ "cpu" or "cuda" for the config's `auto | cpu | cuda`."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise unknown("device", wanted, ("auto", "cpu", "cuda"))
    if wanted == "cuda" and not torch.cuda.is_available():
        raise VireoError("device: cuda, but torch sees no GPU; set device: auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
