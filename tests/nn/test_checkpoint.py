"""Checkpoint files in every layout, whole, damaged and hostile."""

import collections
import io
import os
import pickle
import sys
import zipfile
from argparse import Namespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors
from torch import nn

from vireo.errors import VireoError
from vireo.nn import checkpoint
from vireo.nn.formats import Lazy
from vireo.nn.unpickle import Opaque

LAYOUTS = ["zip", "stream", "safetensors"]


def to_bytes(value, layout):
    if layout == "safetensors":
        return save_safetensors(value)
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=layout == "zip")
    return buffer.getvalue()


def small_state():
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(3, 4),
        "a.half": torch.randn(5).half(),
        "a.brain": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def write(path, value, layout="zip"):
    path.write_bytes(to_bytes(value, layout))
    return path


@pytest.fixture()
def foreign():
    """A class of the authors' own tree, importable only while the file is written."""
    kind = type("EasyDict", (dict,), {"__module__": "utils.easydict"})
    package, module = type(sys)("utils"), type(sys)("utils.easydict")
    module.EasyDict = kind
    sys.modules.update({"utils": package, "utils.easydict": module})
    yield kind
    sys.modules.pop("utils", None), sys.modules.pop("utils.easydict", None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_comes_back_exactly(tmp_path, layout):
    state = small_state()
    named = checkpoint.tensors(write(tmp_path / "any.name", state, layout))
    assert set(named) == set(state)
    for name, value in state.items():
        assert named[name].shape == tuple(value.shape)
        loaded = named[name].load()
        assert loaded.dtype == named[name].dtype == value.dtype
        assert torch.equal(loaded, value)


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_views_parameters_and_shared_storages(tmp_path, layout):
    base = torch.arange(24.0).reshape(4, 6)
    state = collections.OrderedDict(
        whole=base, turned=base.T, part=base[1:3, 2:4], weight=nn.Parameter(torch.ones(2))
    )
    named = checkpoint.tensors(write(tmp_path / "views.pt", state, layout))
    for name, value in state.items():
        assert torch.equal(named[name].load(), value)
        assert named[name].load().is_contiguous()


@pytest.mark.parametrize("layout", ["zip", "stream"])
@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_prefixes(tmp_path, layout, wrapper, prefix):
    state = collections.OrderedDict((prefix + k, v) for k, v in small_state().items())
    value = {wrapper: state, "epoch": 3, "args": Namespace(lr=1)} if wrapper else state
    named = checkpoint.tensors(write(tmp_path / "wrapped.pth", value, layout))
    assert set(named) == set(small_state())


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_a_training_file_with_a_foreign_class(tmp_path, foreign, layout):
    net = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    value = {
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "scaler": {},
        "scheduler": {"base_lrs": [0.1]}, "config": foreign(lr=0.1, model=foreign(size="l")),
        "epoch": 1, "global_step": 10,
    }  # fmt: skip
    path = write(tmp_path / "ViCLIP-L_InternVid-FLT-10M.pth", value, layout)
    sys.modules.pop("utils"), sys.modules.pop("utils.easydict")
    tree = checkpoint.read(path)
    assert isinstance(tree["config"], Opaque)
    assert tree["config"].items["model"].items == {"size": "l"}
    assert tree["global_step"] == 10
    fresh = nn.Linear(4, 2)
    checkpoint.load_into(fresh, checkpoint.tensors(path), path)
    assert torch.equal(fresh.weight, net.weight)
    assert "utils" not in sys.modules


def test_only_the_model_is_read_of_a_training_file(tmp_path):
    """Adam moments of 40 MB stay on disk: the storages of the model are all that is touched."""
    value = {"model": {"w": torch.ones(10)}, "optimizer": {"m": torch.ones(10_000_000)}}
    path = write(tmp_path / "big.pth", value)
    lazy = checkpoint.tensors(path)["w"]
    with open(path, "r+b") as handle:  # the moments are damaged, nobody notices
        handle.seek(20_000_000)
        handle.write(b"\xff" * 1000)
    assert torch.equal(lazy.load(), torch.ones(10))


class Attack:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("layout", ["zip", "stream"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, layout):
    canary = tmp_path / "executed"
    state = {"w": torch.ones(2), "x": Attack(f"touch {canary}")}
    path = write(
        tmp_path / "evil.pth", {"model": state, "config": Attack(f"touch {canary}")}, layout
    )
    assert list(checkpoint.tensors(path)) == ["w"]
    assert not canary.exists()


# -- loading into a module -----------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_load_into_converts_floats_only(device):
    with torch.device(device):
        module = nn.BatchNorm1d(3)
    source = nn.BatchNorm1d(3).double()
    source.weight.data.uniform_()
    source.num_batches_tracked += 5
    checkpoint.load_into(module, source.state_dict(), "here", torch.bfloat16)
    assert module.weight.dtype == torch.bfloat16
    assert module.running_mean.dtype == torch.bfloat16
    assert module.num_batches_tracked.item() == 5
    assert torch.equal(module.weight, source.weight.bfloat16())
    assert module.weight.requires_grad


def test_every_difference_is_listed_by_name():
    module = nn.Sequential(collections.OrderedDict(one=nn.Linear(2, 3), two=nn.Linear(3, 1)))
    state = module.state_dict()
    state["three.weight"] = torch.ones(1)
    del state["two.bias"]
    state["one.weight"] = torch.ones(3, 7)
    with pytest.raises(VireoError) as caught:
        checkpoint.load_into(module, state, "file.pth", hint=lambda shapes: " Try L.")
    text = str(caught.value)
    for part in ("file.pth", "1 missing: two.bias", "1 unexpected: three.weight", "Try L.",
                 "one.weight [3, 7] where the model has [3, 2]"):  # fmt: skip
        assert part in text
    many = {f"x{i}": torch.ones(1) for i in range(30)}
    with pytest.raises(VireoError, match="and 22 more"):
        checkpoint.load_into(module, {**module.state_dict(), **many}, "file.pth")


# -- damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>log in</html>", "web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither safetensors nor"),
        (pickle.dumps({"a": 1}), "holds no named tensors .found: a"),
        (pickle.dumps([1, 2]), "holds no named tensors"),
        (b"\x80\x02}q\x00", "only part of one"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(VireoError, match=message) as caught:
        checkpoint.tensors(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(VireoError, match="not found"):
        checkpoint.tensors(tmp_path / "no.pth")
    with pytest.raises(VireoError, match="cannot read"):
        checkpoint.tensors(tmp_path)


def test_a_zip_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hi")
    with pytest.raises(VireoError, match=r"without data\.pkl"):
        checkpoint.tensors(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}) * 100)
    with pytest.raises(VireoError, match="compressed"):
        checkpoint.tensors(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncation_anywhere_is_an_error(tmp_path, layout):
    data = to_bytes(small_state(), layout)
    path = tmp_path / "cut.pth"
    for keep in range(0, len(data) - 1, max(1, len(data) // 60)):
        path.write_bytes(data[:keep])
        with pytest.raises(VireoError, match=r"cut\.pth"):
            checkpoint.tensors(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = write(tmp_path / "live.safetensors", small_state(), "safetensors")
    named = checkpoint.tensors(path)
    os.truncate(path, 300)
    with pytest.raises(VireoError, match="became shorter"):
        for lazy in named.values():
            lazy.load()


def test_views_that_would_need_more_memory_than_the_file_has(tmp_path):
    path = write(tmp_path / "bomb.pth", {"w": torch.ones(1).expand(1 << 40)})
    with pytest.raises(VireoError, match="beyond its storage"):
        checkpoint.tensors(path)


def damage(data, places, cut, insert):
    changed = bytearray(data)
    for place, bit in places:
        changed[place % len(changed)] ^= 1 << bit
    at = cut % (len(changed) + 1)
    return bytes(changed[:at] + insert + changed[at:])


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 7)), max_size=6),
    cut=st.integers(0, 1 << 16),
    insert=st.binary(max_size=5),
)
def test_flipped_bits_give_a_result_or_a_vireo_error(tmp_path, layout, places, cut, insert):
    data = damage(
        to_bytes({"a": torch.arange(6.0), "b": torch.ones(2, 2)}, layout), places, cut, insert
    )
    path = tmp_path / "flipped.pth"
    path.write_bytes(data)
    try:
        for lazy in checkpoint.tensors(path).values():
            assert isinstance(lazy, Lazy)
            assert lazy.load().numel() < len(data)
    except VireoError as error:
        assert "flipped.pth" in str(error)
