"""Layouts of checkpoint files: safetensors, PyTorch's zip archive, and its older single stream.

Each function maps a file to a tree of dictionaries, lists, numbers, inert stubs and `Lazy` tensors;
places and lengths found in the file are checked against its size before anything is read there.
Errors are VireoErrors without the file's name, or whatever the parsing raises:
`vireo.nn.checkpoint` words both for people.
"""

import io
import json
import math
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.nn import unpickle

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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
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


def loaded(value: Lazy | Tensor) -> Tensor:
    """A tensor, read from its file if that has not happened yet."""
    return value.load() if isinstance(value, Lazy) else value


def show(name: Any) -> str:
    """A name from a file, safe to print."""
    text = str(name)
    return text if text.isprintable() else ascii(text)


# -- safetensors ------------------------------------------------------------------------------


def safetensors(path: Path, size: int) -> dict[str, Lazy]:
    """Header length, a JSON header with the place of every tensor, then their bytes."""
    with open(path, "rb") as handle:
        base = 8 + int.from_bytes(handle.read(8), "little")
        if base > size:
            raise VireoError("the header is cut off")
        header = json.loads(handle.read(base - 8))
    made = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = _SAFE.get(entry["dtype"]), tuple(map(int, entry["shape"]))
        if dtype is None:
            raise VireoError(f"tensor {show(name)} has type {entry['dtype']}, used by no model")
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= size - base:
            raise VireoError(f"tensor {show(name)} reaches beyond the end of the file")
        sane = all(0 <= n <= size for n in shape)
        if not sane or math.prod(shape) * dtype.itemsize != end - start:
            raise VireoError(f"tensor {show(name)} has another size than its shape says")
        made[name] = Lazy(shape, dtype, _reader(path, base + start, shape, None, dtype))
    return made


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


def torch_zip(path: Path, size: int) -> Any:
    """A zip archive: data.pkl describes the object, data/<key> holds one storage each."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
    roots = [n.removesuffix("/data.pkl") for n in members if n.endswith("/data.pkl")]
    if not roots:
        raise VireoError("a zip archive without data.pkl")
    root = min(roots, key=len)
    with open(path, "rb") as handle:

        def locate(name: str) -> tuple[int, int]:
            """Offset and length of a member, which PyTorch stores uncompressed."""
            info = members.get(f"{root}/{name}")
            if info is None:
                raise VireoError(f"the archive does not have {show(name)}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise VireoError(f"{show(name)} is compressed, which PyTorch never does")
            handle.seek(info.header_offset)
            magic, *lengths = struct.unpack("<4s22x2H", handle.read(30))
            start = info.header_offset + 30 + sum(lengths)
            if magic != b"PK\x03\x04":
                raise VireoError(f"no member at the place of {show(name)}")
            if start + info.file_size > size:
                raise VireoError(f"{show(name)} reaches beyond the end of the file")
            return start, info.file_size

        if f"{root}/byteorder" in members:
            handle.seek(locate("byteorder")[0])
            if handle.read(6).decode("ascii", "replace") != sys.byteorder:
                raise VireoError("written on a machine of another byte order")

        known: dict[str, _Storage] = {}

        def storage(identifier: Any) -> _Storage:
            made = _storage(identifier)
            if made.key not in known:
                made.start, length = locate(f"data/{made.key}")
                if made.numel * made.dtype.itemsize > length:
                    raise VireoError(f"storage {show(made.key)} is shorter than it says")
                known[made.key] = made
            return known[made.key]

        start, length = locate("data.pkl")
        handle.seek(start)
        tree = unpickle.load(io.BytesIO(handle.read(length)), storage)
    return _finish(tree, path)


# -- PyTorch: the stream used before 1.6 ---------------------------------------------------------


def torch_stream(path: Path, size: int) -> Any:
    """Pickles (magic, version, system, object, storage keys), then the storages in that order."""
    storages: dict[str, _Storage] = {}

    def storage(identifier: Any) -> _Storage:
        made = _storage(identifier)
        return storages.setdefault(made.key, made)

    with open(path, "rb") as handle:
        stream = _Bounded(handle, size)
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
                raise unpickle.BadPickle(f"storage {show(key)} reaches beyond the end of the file")
            handle.seek(end)
    return _finish(tree, path)


# -- both ----------------------------------------------------------------------------------------


class _Bounded:
    """A stream that never promises more bytes than the pickle has (lengths in it may be lies)."""

    def __init__(self, handle: BinaryIO, end: int) -> None:
        self.handle, self.end, self.tell = handle, end, handle.tell

    def _upto(self, most: int) -> int:
        return max(0, min(most, self.end - self.handle.tell()))

    def read(self, count: int, /) -> bytes:
        return self.handle.read(self._upto(count))

    def readline(self) -> bytes:
        return self.handle.readline(self._upto(1 << 16))


def _storage(identifier: Any) -> _Storage:
    """("storage", type, key, location, numel, ...) -> a storage whose place is not known yet."""
    if not (isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] == "storage"):
        raise unpickle.BadPickle("a persistent id is no storage of PyTorch's")
    if any(part is not None for part in identifier[5:]):
        raise unpickle.BadPickle("a storage that is a view of another one")
    _, kind, key, _, numel = identifier[:5]
    dtype = _STORAGES.get(kind.name) if isinstance(kind, unpickle.Global) else None
    if dtype is None or not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
        raise unpickle.BadPickle(f"a storage of an unknown kind ({show(kind)})")
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


def _lazy(record: unpickle.Tensor, path: Path) -> Lazy | unpickle.Opaque:
    storage, dtype = record.storage, None
    if isinstance(storage, _Storage):
        dtype = _DTYPES.get(record.dtype) if record.dtype else storage.dtype
    if dtype is None:  # of a type that no model here uses: not a tensor for us
        return unpickle.Opaque(unpickle.Global("torch", "Tensor"))
    if storage.start is None:
        raise VireoError(f"storage {show(storage.key)} is not in the file")
    capacity = storage.numel * storage.dtype.itemsize // dtype.itemsize - record.offset
    extent = _extent(record.shape, record.stride)
    # Overlapping views (stride 0) would let a small file ask for any amount of memory.
    if max(math.prod(record.shape), extent) > capacity:
        raise VireoError("a tensor reaches beyond its storage")
    start = storage.start + record.offset * dtype.itemsize
    return Lazy(record.shape, dtype, _reader(path, start, record.shape, record.stride, dtype))


def _extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many numbers lie between the first and the last element of a strided view."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def _reader(
    path: Path,
    start: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None,
    dtype: torch.dtype,
) -> Callable[[], Tensor]:
    """A function that reads one tensor's bytes; checked again because the file may have changed."""

    def read() -> Tensor:
        numel = math.prod(shape) if stride is None else _extent(shape, stride)
        raw = torch.empty(numel * dtype.itemsize, dtype=torch.uint8)
        try:
            with open(path, "rb") as handle:
                handle.seek(start)
                got = handle.readinto(raw.numpy().data)
        except OSError as error:
            raise VireoError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
        if got != raw.numel():
            raise VireoError(f"checkpoint {path} became shorter while it was read")
        flat = raw.view(dtype)
        return flat.view(shape) if stride is None else flat.as_strided(shape, stride).contiguous()

    return read
