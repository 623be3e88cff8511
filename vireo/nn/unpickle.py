"""Reading pickles without running them.

A pickle is a program for a small stack machine whose REDUCE, NEWOBJ, INST, OBJ and BUILD steps may
call anything importable. This machine has the same steps but imports and calls nothing: a global
is a pair of names (`Global`), a call or an instance is an inert record of what was asked for
(`Opaque`), and only a fixed list of tensor and container constructors, written out below, yields
something else. Extension codes (EXT1/2/4) become globals that nothing knows. The opcodes and their
arguments are parsed by the standard library's `pickletools`.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from vireo.errors import VireoError


class BadPickle(VireoError):
    """The bytes are no pickle, or one that ends too early."""


class Stream(Protocol):
    """What is needed of a binary file."""

    def read(self, count: int, /) -> bytes:
        """At most `count` bytes."""
        ...

    def readline(self) -> bytes:
        """Bytes up to a line's end."""
        ...


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something importable, never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True, repr=False)
class Opaque:
    """An object that was not built: what was called, with what, and what was put into it."""

    made_by: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<inert {self.made_by}>" if isinstance(self.made_by, Global) else "<inert>"


@dataclass(eq=False, slots=True, repr=False)
class Tensor:
    """A view of a storage: nothing is read yet. `dtype` overrides the storage's own."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


_Mark = object()
_PRIMITIVE = (str, int, float, bool, bytes, type(None))


def load(stream: Stream, persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle from the stream (which is left right behind it).

    `persistent(id)` turns torch's storage ids into storages. Any defect of the bytes raises
    BadPickle (or what `persistent` raises); nothing is imported or called.
    """
    try:
        return _Machine(persistent).run(stream)
    except VireoError:
        raise
    except Exception as error:  # bytes from outside may break any of the steps
        raise BadPickle(f"not a readable pickle ({type(error).__name__}: {error})") from error


class _Machine:
    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise BadPickle(f"opcode {name} is not used by checkpoints")
                step(argument)
        raise BadPickle("the pickle has no end")

    def _marked(self) -> list[Any]:
        """Pop everything above the topmost mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _Mark:
            at -= 1
            if at < 0:
                raise BadPickle("a mark is missing")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    # -- opcodes: framing, stack and memo --------------------------------------------------------

    def _proto(self, _: Any) -> None: ...

    def _frame(self, _: Any) -> None: ...

    def _mark(self, _: Any) -> None:
        self.stack.append(_Mark)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _binget = _long_binget = _get

    # -- opcodes: containers ---------------------------------------------------------------------

    def _none(self, _: Any) -> None:
        self.stack.append(None)

    def _newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def _newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def _appends(self, _: Any) -> None:
        values = self._marked()
        _extend(self.stack[-1], values)

    _additems = _appends

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _dict(self, _: Any) -> None:
        flat = self._marked()
        self.stack.append({})
        _update(self.stack[-1], flat)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _update(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        flat = self._marked()
        _update(self.stack[-1], flat)

    def _empty_set(self, _: Any) -> None:
        self.stack.append([])  # a list: members may be records that do not compare

    def _frozenset(self, _: Any) -> None:
        self.stack.append(self._marked())

    # -- opcodes: names, calls and instances, none of which happen -------------------------------

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise BadPickle("a global's name is no string")
        self.stack.append(Global(module, name))

    def _ext1(self, code: int) -> None:
        self.stack.append(Global("pickle extension", str(code)))

    _ext2 = _ext4 = _ext1

    def _reduce(self, _: Any) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        self.stack.append(_construct(called, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        _, args, called = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(_construct(called, args))

    def _inst(self, names: str) -> None:
        module, _, name = names.partition(" ")
        args = tuple(self._marked())
        self.stack.append(_construct(Global(module, name), args))

    def _obj(self, _: Any) -> None:
        called, *args = self._marked()
        self.stack.append(_construct(called, tuple(args)))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Opaque):
            self.stack[-1].state = state

    def _persid(self, value: Any) -> None:
        self.stack.append(self.persistent(value))

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self.persistent(self.stack.pop()))


# Opcodes whose parsed argument is the value itself (numbers, strings, bytes).
_LITERALS = frozenset(
    code.name
    for code in pickletools.opcodes
    if code.arg is not None and code.stack_before == [] and code.stack_after
    and code.stack_after[0].name in {"int", "int_or_bool", "float", "str", "bytes", "bytes_or_str",
                                     "bytearray"}
)  # fmt: skip


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Opaque):
        target.values.extend(values)
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise BadPickle("append to something that is no list")


def _update(target: Any, flat: list[Any]) -> None:
    if isinstance(target, Opaque):
        target = target.items
    if not isinstance(target, dict) or len(flat) % 2:
        raise BadPickle("key and value set in something that is no dictionary")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        target[_key(key)] = value


def _key(key: Any) -> Any:
    """Keys are hashed here, so only small flat ones are: a deep tuple overflows the C stack."""
    flat = key if isinstance(key, tuple) else (key,)
    if len(flat) <= 8 and all(isinstance(part, (*_PRIMITIVE, Global)) for part in flat):
        return key
    return Opaque(Global("pickle", "key"), (key,))


# -- the allow-list --------------------------------------------------------------------------


def _construct(called: Any, args: Any) -> Any:
    args = args if isinstance(args, tuple) else (args,)
    maker = _MAKERS.get((called.module, called.name)) if isinstance(called, Global) else None
    made = maker(*args) if maker else None
    return Opaque(called, args) if made is None else made


def _ordered_dict(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for pair in pairs:
        key, value = pair
        made[_key(key)] = value
    return made


def _ints(values: Any) -> tuple[int, ...]:
    # At most torch's 64 dimensions: one long list, used again and again, would cost its square.
    if len(values) > 64 or not all(isinstance(v, int) and 0 <= v < 2**62 for v in values):
        raise BadPickle("a tensor's sizes are no plain numbers")
    return tuple(values)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    shape, steps = _ints(size), _ints(stride)
    if len(shape) != len(steps):
        raise BadPickle("a tensor's size and stride differ in length")
    return Tensor(storage, _ints([offset])[0], shape, steps)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    made = _rebuild_tensor(storage, offset, size, stride)
    made.dtype = dtype.name if isinstance(dtype, Global) else None
    return made


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_from_type(function: Any, type_: Any, args: Any, *_: Any) -> Any:
    if isinstance(function, Global) and function.module == "torch._utils":
        return _construct(function, args)
    return None


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): lambda values=(): _ints(values),
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
}
