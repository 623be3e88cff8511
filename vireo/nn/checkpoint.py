"""Checkpoint files -> named tensors -> a model, without running code from the file.

Reads `.safetensors` and PyTorch's two pickle layouts (a zip archive since 1.6, one stream before),
whatever the file is called. The pickle part goes through `vireo.nn.unpickle`; tensors stay
descriptions until they are asked for, and then only their own bytes are read, so the optimizer
state in a training file costs nothing. Loading is strict: every difference is listed by name.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vireo.errors import VireoError
from vireo.nn import formats, unpickle
from vireo.nn.formats import Lazy, loaded, show

WRAPPERS = ("model", "module", "state_dict")


def tensors(path: str | Path, wrappers: Iterable[str] = WRAPPERS) -> dict[str, Lazy]:
    """Name -> tensor of a checkpoint file, unwrapped and without `module.` before every name.

    The first of `wrappers` that the file has is taken; with none of them the file itself is the
    dictionary. A TorchScript archive gives its parameters by dotted names. Raises VireoError
    naming the file when it is missing, damaged or no checkpoint.
    """
    tree = read(path)
    if isinstance(tree, unpickle.Opaque) and isinstance(tree.state, dict):
        tree = _attributes(tree.state)
    for wrapper in wrappers:
        inner = _mapping(_mapping(tree).get(wrapper))
        if any(isinstance(value, Lazy) for value in inner.values()):
            tree = inner
            break
    found = {k: v for k, v in _mapping(tree).items() if isinstance(k, str) and isinstance(v, Lazy)}
    if not found:
        keys = ", ".join(map(show, list(_mapping(tree))[:8])) or type(tree).__name__
        raise VireoError(f"{path} holds no named tensors (found: {keys})")
    if all(name.startswith("module.") for name in found):
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def read(path: str | Path) -> Any:
    """The object in a checkpoint file: dictionaries, lists, numbers, `Lazy` tensors, inert stubs.

    Raises VireoError as `tensors` does.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as handle:
            head = handle.read(64)
        fits = int.from_bytes(head[:8], "little") <= size - 8
        if head[8:9] == b"{" and (fits or head[:1] != b"\x80"):
            return formats.safetensors(path, size)
        if head.startswith(b"PK"):
            return formats.torch_zip(path, size)
        if head.startswith(b"\x80"):
            return formats.torch_stream(path, size)
    except FileNotFoundError as error:
        raise VireoError(f"checkpoint not found: {path}") from error
    except OSError as error:
        raise VireoError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # bytes from outside may break any step of the parsers
        what = str(error) if isinstance(error, VireoError) else f"{type(error).__name__}: {error}"
        raise VireoError(
            f"{path} is not a readable checkpoint, or only part of one ({what}); fetch it again"
        ) from error
    raise VireoError(f"{path} is not a checkpoint: {_looks_like(head)}")


def load_into(
    module: nn.Module,
    named: Mapping[str, Lazy | Tensor],
    source: str | Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    hint: Callable[[dict[str, tuple[int, ...]]], str] | None = None,
) -> None:
    """Put named tensors into a module, strictly; floating ones become `dtype`.

    Tensors are read one by one, so the peak is one model. A module on the meta device is filled
    (parameters shared by two names must be tied again afterwards, buffers that are not saved made).
    VireoError lists missing, unexpected and misshaped names; `hint(shapes)` may add a guess.
    """
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in named.items()}
    problems = _listing("missing", (n for n in wanted if n not in given))
    problems += _listing("unexpected", (n for n in given if n not in wanted))
    problems += _listing(
        "of another shape",
        (
            f"{name} {list(given[name])} where the model has {list(shape)}"
            for name, shape in wanted.items()
            if name in given and given[name] != shape
        ),
    )
    if problems:
        guess = hint(given) if hint else ""
        raise VireoError(f"{source} does not fit the model: {'; '.join(problems)}.{guess}")
    on_meta = any(value.is_meta for value in module.state_dict().values())
    if not on_meta:
        module.to(device, dtype)
    state = {}
    for name, target in module.state_dict().items():
        value = loaded(named[name])
        if on_meta:
            state[name] = value.to(device, dtype if value.is_floating_point() else None)
        else:
            target.copy_(value)
    if on_meta:
        module.load_state_dict(state, strict=True, assign=True)


def labels(path: str | Path) -> list[str] | None:
    """Class names in the metadata of a `.safetensors` file (rule train writes them), else None."""
    if Path(path).suffix != ".safetensors":
        return None
    with safe_open(str(path), "pt") as file:
        text = (file.metadata() or {}).get("labels")
    return json.loads(text) if text else None


def _listing(what: str, names: Iterable[str]) -> list[str]:
    found = [show(name) for name in names]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return [f"{len(found)} {what}: {', '.join(found[:8])}{more}"] if found else []


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, unpickle.Opaque):  # a dictionary class of the authors' own
        return value.items
    return value if isinstance(value, dict) else {}


def _attributes(state: dict[Any, Any]) -> dict[str, Lazy]:
    """Tensors of a TorchScript module: stubs whose state is a dictionary of attributes, nested."""
    found: dict[str, Lazy] = {}
    todo, seen = [("", state)], set()
    while todo:
        prefix, attributes = todo.pop()
        if id(attributes) in seen:
            continue
        seen.add(id(attributes))
        for key, value in attributes.items():
            if isinstance(value, Lazy):
                found[f"{prefix}{key}"] = value
            elif isinstance(value, unpickle.Opaque) and isinstance(value.state, dict):
                todo.append((f"{prefix}{key}.", value.state))
    return found


def _looks_like(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file it stands for (git lfs pull)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, so the download was answered by an error or a log-in form"
    return f"it starts with {head[:8]!r}, neither safetensors nor a PyTorch file"
