"""Checkpoint files -> named tensors -> a model, without running code from the file.

Reads `.safetensors` and PyTorch's two pickle layouts (a zip archive since 1.6, one stream before),
whatever the file is called. The pickle part goes through `vireo.nn.unpickle`; tensors stay
descriptions until they are asked for, and then only their own bytes are read, so the optimizer
state in a training file costs nothing. Loading is strict: every difference is listed by name.
"""

import json
import logging
import math
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from vireo.errors import VireoError
from vireo.nn import unpickle

log = logging.getLogger("vireo")

WRAPPERS = ("model", "module", "state_dict")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _STORAGES.values()}


@dataclass(eq=False)
class Lazy:
    """One tensor of a file: shape and dtype are known, `load()` reads its bytes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    def load(self) -> Tensor:
        """The tensor itself, on the CPU, with memory of its own."""
        return self.read()


@dataclass(eq=False)
class _Storage:
    """A run of bytes in a pickle checkpoint; `start` is found late in the legacy layout."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int | None = None


def tensors(path: str | Path, wrappers: Iterable[str] = WRAPPERS) -> dict[str, Lazy]:
    """Name -> tensor of a checkpoint file, unwrapped and without `module.` before every name.

    The first of `wrappers` that the file has is taken; with none of them the file itself is the
    dictionary. Raises VireoError naming the file when it is missing, damaged or no checkpoint.
    """
    tree = read(path)
    for wrapper in wrappers:
        inner = _mapping(_mapping(tree).get(wrapper))
        if any(isinstance(value, Lazy) for value in inner.values()):
            tree = inner
            break
    found = {k: v for k, v in _mapping(tree).items() if isinstance(k, str) and isinstance(v, Lazy)}
    if not found:
        keys = ", ".join(map(_show, list(_mapping(tree))[:8])) or type(tree).__name__
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
        with open(path, "rb") as handle:
            head = handle.read(64)
        if head[8:9] == b"{":
            return _safetensors(path)
        if head.startswith(b"PK"):
            return _zip(path)
        if head.startswith(b"\x80"):
            return _legacy(path)
    except FileNotFoundError as error:
        raise VireoError(f"checkpoint not found: {path}") from error
    except unpickle.BadPickle as error:
        raise VireoError(_damaged(path, error)) from error
    except OSError as error:
        raise VireoError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
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

    A module on the meta device gets them tensor by tensor, so the peak is one model of `dtype`.
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
    state = {}
    for name in wanted:
        value = named[name]
        value = value.load() if isinstance(value, Lazy) else value
        state[name] = value.to(device, dtype if value.is_floating_point() else None)
    on_meta = any(value.is_meta for value in module.state_dict().values())
    module.load_state_dict(state, strict=True, assign=on_meta)
    if not on_meta:
        module.to(device, dtype)


def _listing(what: str, names: Iterable[str]) -> list[str]:
    found = [_show(name) for name in names]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return [f"{len(found)} {what}: {', '.join(found[:8])}{more}"] if found else []


def _show(name: Any) -> str:
    text = str(name)
    return text if text.isprintable() else ascii(text)


def _mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, unpickle.Opaque):  # a dictionary class of the authors' own
        return value.items
    return value if isinstance(value, dict) else {}


def _damaged(path: Path, error: object) -> str:
    return f"{path} is not a readable checkpoint, or only part of one: {error}; fetch it again"


def _looks_like(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file it stands for (git lfs pull)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, so the download was answered by an error or a log-in form"
    return f"it starts with {head[:8]!r}, neither safetensors nor a PyTorch file"


# -- safetensors ---------------------------------------------------------------------------------


def _safetensors(path: Path) -> dict[str, Lazy]:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(path, framework="pt")
        with open(path, "rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            entries = json.loads(raw.read(size))
        entries.pop("__metadata__", None)
        return {name: _entry(handle, name, entries[name]) for name in entries}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise VireoError(_damaged(path, error)) from error


def _entry(handle: Any, name: str, entry: dict[str, Any]) -> Lazy:
    dtype = _SAFE.get(entry["dtype"])
    if dtype is None:
        raise ValueError(f"tensor {name} has type {entry['dtype']}, which no model here uses")
    return Lazy(tuple(entry["shape"]), dtype, lambda: handle.get_tensor(name).clone())


_SAFE = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


# -- PyTorch: zip archives -----------------------------------------------------------------------


def _zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except Exception as error:  # zipfile raises half a dozen kinds on damaged archives
        raise VireoError(_damaged(path, error)) from error
    roots = [n.removesuffix("/data.pkl") for n in members if n.count("/") == 1]
    roots = [root for root in roots if f"{root}/data.pkl" in members]
    if not roots:
        raise VireoError(f"{path} is a zip archive, but not a PyTorch checkpoint (no data.pkl)")
    root = roots[0]
    with open(path, "rb") as handle:
        size = path.stat().st_size

        def locate(name: str) -> tuple[int, int]:
            """Offset and length of a member, which PyTorch stores uncompressed."""
            info = members.get(name)
            if info is None:
                raise unpickle.BadPickle(f"the archive lacks {_show(name)}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise unpickle.BadPickle(f"{_show(name)} is compressed, which PyTorch never does")
            handle.seek(info.header_offset)
            header = handle.read(30)
            if header[:4] != b"PK\x03\x04":
                raise unpickle.BadPickle(f"no member at the place of {_show(name)}")
            extra = int.from_bytes(header[26:28], "little") + int.from_bytes(
                header[28:30], "little"
            )
            start = info.header_offset + 30 + extra
            if start + info.file_size > size:
                raise unpickle.BadPickle(f"{_show(name)} reaches beyond the end of the file")
            return start, info.file_size

        if f"{root}/byteorder" in members:
            start, length = locate(f"{root}/byteorder")
            handle.seek(start)
            if handle.read(length).decode("ascii", "replace") != sys.byteorder:
                raise VireoError(f"{path} was written on a machine of another byte order")

        def storage(identifier: Any) -> _Storage:
            made = _storage(identifier)
            made.start, length = locate(f"{root}/data/{made.key}")
            if made.numel * made.dtype.itemsize > length:
                raise unpickle.BadPickle(f"storage {_show(made.key)} is shorter than it says")
            return made

        start, length = locate(f"{root}/data.pkl")
        handle.seek(start)
        tree = unpickle.load(_Bounded(handle, start + length), _Memo(storage))  # type: ignore[arg-type]
    return _finish(tree, path)


# -- PyTorch: the stream used before 1.6 ---------------------------------------------------------


def _legacy(path: Path) -> Any:
    """Pickles (magic, version, system, object, storage keys), then the storages in that order."""
    size = path.stat().st_size
    storages: dict[str, _Storage] = {}

    def storage(identifier: Any) -> _Storage:
        made = _storage(identifier)
        return storages.setdefault(made.key, made)

    with open(path, "rb") as handle:
        stream: Any = _Bounded(handle, size)
        tree = unpickle.load(stream, storage)
        if tree != _LEGACY_MAGIC:
            return _finish(tree, path)  # a plain pickle, without any tensor of torch's
        for _ in range(2):
            unpickle.load(stream, storage)
        tree = unpickle.load(stream, storage)
        keys = unpickle.load(stream, storage)
        if not isinstance(keys, list):
            raise unpickle.BadPickle("the list of storages is missing")
        for key in keys:
            numel = int.from_bytes(handle.read(8), "little")
            made = storages.get(key) if isinstance(key, str) else None
            if made is None or made.numel > numel:
                raise unpickle.BadPickle("the list of storages does not match the tensors")
            made.start = handle.tell()
            end = made.start + numel * made.dtype.itemsize
            if end > size:
                raise unpickle.BadPickle(f"storage {_show(key)} reaches beyond the end of the file")
            handle.seek(end)
    return _finish(tree, path)


# -- both ----------------------------------------------------------------------------------------


class _Bounded:
    """A stream that never promises more bytes than the file has (lengths in it may be lies)."""

    def __init__(self, handle: BinaryIO, end: int) -> None:
        self.handle, self.end, self.tell = handle, end, handle.tell

    def read(self, count: int) -> bytes:
        return self.handle.read(max(0, min(count, self.end - self.handle.tell())))

    def readline(self) -> bytes:
        return self.handle.readline(max(0, self.end - self.handle.tell()))


class _Memo:
    """Many tensors share a storage id; each is located once."""

    def __init__(self, storage: Callable[[Any], _Storage]) -> None:
        self.storage, self.known = storage, {}  # type: ignore[var-annotated]

    def __call__(self, identifier: Any) -> _Storage:
        key = identifier[2] if isinstance(identifier, tuple) and len(identifier) > 2 else None
        if not isinstance(key, str):
            raise unpickle.BadPickle("a persistent id is no storage of PyTorch's")
        if key not in self.known:
            self.known[key] = self.storage(identifier)
        return self.known[key]


def _storage(identifier: Any) -> _Storage:
    """("storage", type, key, location, numel, ...) -> a storage whose place is not known yet."""
    if not (isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] == "storage"):
        raise unpickle.BadPickle("a persistent id is no storage of PyTorch's")
    _, kind, key, _, numel = identifier[:5]
    dtype = _STORAGES.get(kind.name) if isinstance(kind, unpickle.Global) else None
    if dtype is None or not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
        raise unpickle.BadPickle(f"a storage of an unknown kind ({_show(kind)})")
    return _Storage(key, dtype, numel)


def _finish(tree: Any, path: Path) -> Any:
    """Replace tensor records by `Lazy` ones, in place, once per container."""
    todo, seen, root = [tree], set(), [tree]
    todo.append(root)
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, unpickle.Opaque):
            todo += [value.items, value.values, value.args]
            if isinstance(value.state, unpickle.Tensor):
                value.state = _lazy(value.state, path)
            todo.append(value.state)
        elif isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, unpickle.Tensor):
                    value[key] = _lazy(item, path)
                else:
                    todo.append(item)
        elif isinstance(value, tuple):
            todo += value
    return root[0]


def _lazy(record: unpickle.Tensor, path: Path) -> Lazy:
    storage, dtype = record.storage, None
    if isinstance(storage, _Storage):
        dtype = _DTYPES.get(record.dtype or "") if record.dtype else storage.dtype
    if dtype is None:
        raise unpickle.BadPickle("a tensor without a storage, or of an unknown type")
    numel = math.prod(record.shape)
    steps = sum((n - 1) * s for n, s in zip(record.shape, record.stride, strict=True))
    extent = steps + 1 if numel else 0
    capacity = storage.numel * storage.dtype.itemsize // dtype.itemsize
    # Overlapping views (stride 0) would let a small file ask for any amount of memory.
    if record.offset + extent > capacity or numel > capacity:
        raise unpickle.BadPickle("a tensor reaches beyond its storage")

    def read() -> Tensor:
        if storage.start is None:
            raise VireoError(_damaged(path, "a storage is missing"))
        raw = torch.empty(extent * dtype.itemsize, dtype=torch.uint8)
        try:
            with open(path, "rb") as handle:
                handle.seek(storage.start + record.offset * dtype.itemsize)
                got = handle.readinto(memoryview(raw.numpy()))  # type: ignore[arg-type]
        except OSError as error:
            raise VireoError(f"cannot read checkpoint {path}: {error.strerror}") from error
        if got != raw.numel():
            raise VireoError(_damaged(path, "it became shorter while it was read"))
        return raw.view(dtype).as_strided(record.shape, record.stride).contiguous()

    return Lazy(record.shape, dtype, read)
