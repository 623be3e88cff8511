"""Hostile pickles: whatever they ask for, nothing is imported, called or even hangs."""

import collections
import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.nn import unpickle
from vireo.nn.unpickle import BadPickle, Global, Opaque

LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
PLAIN = st.recursive(
    LEAF | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=20,
)


def load(data, persistent=lambda identifier: identifier):
    return unpickle.load(io.BytesIO(data), persistent)


class Calls:
    """Pickles as `function(*args)`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.fixture()
def canary(tmp_path):
    """A path that any executed command would create, and a check that it was not."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


@given(PLAIN, st.integers(3, pickle.HIGHEST_PROTOCOL))  # before 3, bytes are a function call
def test_plain_values_come_back(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_calls_are_recorded_and_not_made(canary, protocol):
    code = f"open({str(canary)!r}, 'w')"
    attacks = [
        Calls(os.system, f"touch {canary}"),
        Calls(eval, code),
        Calls(exec, code),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(map, eval, [code]),
        {"model": [Calls(Calls, Calls(eval, code))]},
    ]
    for attack in attacks:
        load(pickle.dumps(attack, protocol))
    made = load(pickle.dumps(attacks[1], protocol))
    assert isinstance(made, Opaque)
    assert made.made_by.name == "eval"
    assert made.args == (code,)


def test_calling_what_a_call_returned(canary):
    command = f"touch {canary}".encode()
    inner = b"cbuiltins\ngetattr\n(cos\n__dict__\nX\x06\x00\x00\x00systemtR"
    made = load(inner + b"(U" + bytes([len(command)]) + command + b"tR.")
    assert isinstance(made, Opaque)
    assert isinstance(made.made_by, Opaque)


def test_every_instance_opcode(canary):
    command = f"touch {canary}"
    text = b"V" + command.encode() + b"\n"
    programs = {
        "INST": b"(" + text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text + b"o.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\n" + text + b"\x85}\x92.",
        "REDUCE": b"cos\nsystem\n" + text + b"\x85R.",
        "BUILD": b"cos\nsystem\n" + text + b"b.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
    }
    for name, program in programs.items():
        assert any(op.name == name for op, _, _ in pickletools.genops(program))
        assert isinstance(load(program), Opaque | Global), name


@pytest.mark.parametrize("program", [b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"])
def test_registered_extension_codes(canary, program):
    copyreg.add_extension("os", "system", 0xF0)
    try:
        command = f"V touch {canary}\n".encode()
        assert pickle.loads(b"\x80\x02" + program + b".") is os.system  # and now it is cached
        assert isinstance(load(b"\x80\x02" + program + command + b"\x85R."), Opaque)
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
        copyreg.clear_extension_cache()


def test_build_cannot_change_an_allowed_constructor():
    slots = b"N}X\x0c\x00\x00\x00__defaults__K\x01s\x86"
    data = b"ctorch._utils\n_rebuild_tensor_v2\n" + slots + b"b."
    assert load(data) == Global("torch._utils", "_rebuild_tensor_v2")


def test_a_foreign_dictionary_class_keeps_its_items_without_being_imported():
    kind = type("EasyDict", (dict,), {"__module__": "utils.easydict"})
    module = type(sys)("utils.easydict")
    module.EasyDict = kind
    sys.modules["utils"], sys.modules["utils.easydict"] = type(sys)("utils"), module
    try:
        made = kind(lr=1.0, inner=kind(a=[1]))
        made.extra = 3
        data = pickle.dumps({"config": made, "epoch": 2})
    finally:
        del sys.modules["utils"], sys.modules["utils.easydict"]
    tree = load(data)
    assert tree["epoch"] == 2
    assert str(tree["config"].made_by) == "utils.easydict.EasyDict"
    assert tree["config"].items["inner"].items == {"a": [1]}
    assert tree["config"].state == {"extra": 3}
    assert "utils" not in sys.modules


@pytest.mark.parametrize("opened", [b"(", b"]", b"\x8f"])
def test_very_deep_nesting(opened):
    closed = {b"(": b"t", b"]": b"a", b"\x8f": b"\x90"}[opened]
    depth = 200_000
    data = b"\x80\x04" + opened * depth
    if opened == b"(":
        data += closed * depth
    elif opened == b"]":
        data += closed * (depth - 1)
    else:
        data = b"\x80\x04" + b"\x8f(" * depth + b"K\x01" + b"\x90" * depth
    load(data + b".")


def test_a_deep_tuple_as_key_is_not_hashed():
    data = b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"K\x01s."
    ((key, value),) = load(data).items()
    assert isinstance(key, Opaque)
    assert value == 1


def test_one_long_list_used_again_and_again_costs_no_square():
    many = 20_000
    data = b"\x80\x02](" + b"K\x01" * many + b"eq\x00"
    data += b"ctorch\nSize\nq\x01" + b"0h\x01h\x00\x85R" * many + b"."
    with pytest.raises(BadPickle, match="sizes"):
        load(data)
    data = b"\x80\x02](" + b"K\x01" * many + b"eq\x000ccollections\nOrderedDict\n]("
    with pytest.raises(BadPickle):
        load(data + b"h\x00" * many + b"e\x85R.")


@pytest.mark.parametrize(
    "data",
    [b"", b".", b"garbage", b"\x80\x02", b"\x80\x02K\x01", b"K\x01t.", b"h\x07.", b"]K\x01s.",
     b"\x80\x05\x97.", b"K\x01\x93.", b"\x8a\xff", b"\x8e" + b"\xff" * 8],
)  # fmt: skip
def test_broken_bytes_raise_one_kind_of_error(data):
    with pytest.raises(BadPickle):
        load(data)


_CODES = st.sampled_from([op.code.encode("latin1") for op in pickletools.opcodes])


@given(st.lists(_CODES | st.binary(max_size=6), max_size=60))
def test_random_programs_end_in_a_value_or_bad_pickle(parts):
    with contextlib.suppress(BadPickle):
        load(b"\x80\x04" + b"".join(parts) + b".")
