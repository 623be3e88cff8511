"""The frame store: lossless, stale with its source, never trusted when damaged."""

import os
import resource

import numpy as np
import pytest

from tests.media import clips
from vireo.errors import VireoError
from vireo.media import store as stores
from vireo.media.decode import DecodedClip, DecodeRequest, decode_one
from vireo.media.pool import decode
from vireo.media.store import Store, estimate, spec_key

RULE = {"rule": "middle", "n": 4}
RESIZE = {"library": "cv2", "interpolation": "bilinear", "size": 32}


@pytest.fixture
def request_(tmp_path):
    return DecodeRequest("vid", str(clips.clip(tmp_path / "vid.mp4", 20)), rule=RULE, resize=RESIZE)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "frames")


def same(a, b):
    facts = {"seconds": 0, "from_store": 0}
    return a.facts() | facts == b.facts() | facts and np.array_equal(a.frames, b.frames)


def test_round_trip(store, request_):
    assert store.get(request_) is None
    made = decode_one(request_)
    store.put(made)
    kept = store.get(request_)
    assert kept.from_store and same(kept, made)
    assert store.get(request_, pixels=False).frames is None
    assert [p.suffix for p in store.root.rglob("*") if p.is_file()] == [".safetensors"]


def test_failures_are_kept_until_the_file_changes(store, tmp_path):
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"no video")
    bad = DecodeRequest("bad", str(path), rule=RULE, resize=RESIZE)
    (made,) = decode([bad], {"workers": 0}, store)
    assert made.status == "undecodable"
    (kept,) = decode([bad], {"workers": 0}, store)
    assert kept.from_store and kept.error == made.error and kept.frames is None
    clips.clip(path, 20)
    (mended,) = decode([bad], {"workers": 0}, store)
    assert mended.status == "ok" and not mended.from_store


def test_missing_is_never_kept(store, tmp_path):
    request = DecodeRequest("gone", str(tmp_path / "gone.mp4"), rule=RULE)
    assert [s.status for s in decode([request], {"workers": 0}, store)] == ["missing"]
    assert not list(store.root.rglob("*.safetensors"))


def test_stale_when_size_or_time_changes(store, request_):
    store.put(decode_one(request_))
    os.utime(request_.path, ns=(1, 1))
    assert store.get(request_) is None
    store.put(decode_one(request_))
    assert store.get(request_)
    os.remove(request_.path)
    assert store.get(request_) is None


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "text"])
def test_damaged_store_files_are_made_again(store, request_, harm):
    first = decode_one(request_)
    store.put(first)
    path = store.path(request_)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-9000] ^= 255
    new = {"cut": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"hello" * 99}[harm]
    path.write_bytes(new)
    assert store.get(request_) is None
    (again,) = decode([request_], {"workers": 0}, store)
    assert again.status == "ok" and not again.from_store
    assert same(store.get(request_), first)


def test_what_changes_pixels_changes_the_key(monkeypatch):
    keys = {
        spec_key(RULE, RESIZE),
        spec_key({**RULE, "n": 5}, RESIZE),
        spec_key({"rule": "uniform_stride", "n": 4}, RESIZE),
        spec_key(RULE, {**RESIZE, "size": 33}),
        spec_key(RULE, {**RESIZE, "interpolation": "area"}),
        spec_key(RULE, None),
    }
    assert len(keys) == 6
    assert spec_key({**RULE, "store": True}, RESIZE) in keys
    monkeypatch.setattr(stores, "ENGINE", 99)
    assert spec_key(RULE, RESIZE) not in keys


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs", "..", "a/b", "x" * 400, "a b'\"%é", ""]
)
def test_no_id_leaves_the_folder(store, name):
    path = store.path(DecodeRequest(name, "x.mp4", rule=RULE))
    assert store.root in path.resolve().parents
    assert len(path.name) < 255
    assert path != store.path(DecodeRequest(name + "x", "x.mp4", rule=RULE))


def test_sub_clips_and_long_ids_differ(store):
    paths = {
        store.path(DecodeRequest("v" * 300, "x", rule=RULE, start=s, end=e))
        for s, e in [(None, None), (0.0, 5.0), (5.0, None), (None, 5.0)]
    }
    assert len(paths) == 4
    nan = float("nan")
    assert store.path(DecodeRequest("v", "x", rule=RULE, start=nan, end=nan)) == store.path(
        DecodeRequest("v", "x", rule=RULE)
    )


def test_failures_at_a_limit_last_as_long_as_the_limit(tmp_path, request_):
    source = decode_one(request_).source
    late = DecodedClip("vid", "undecodable", error="too slow", source=source, limit=True)
    late.request = request_
    strict = Store(tmp_path / "frames", {"timeout_s": 1, "workers": 2})
    strict.put(late)
    assert strict.get(request_).error == "too slow"
    assert Store(tmp_path / "frames", {"timeout_s": 1, "workers": 9}).get(request_)
    assert Store(tmp_path / "frames", {"timeout_s": 60}).get(request_) is None


def test_a_larger_picture_limit_is_a_new_try(tmp_path, request_):
    small = {"workers": 0, "max_pixels": 100}
    (sample,) = decode([request_], small, tmp_path / "frames")
    assert sample.status == "undecodable" and "decode.max_pixels" in sample.error
    (sample,) = decode([request_], small, tmp_path / "frames")
    assert sample.from_store
    (sample,) = decode([request_], {"workers": 0}, tmp_path / "frames")
    assert sample.status == "ok"


def test_full_disk_is_an_error_and_leaves_nothing(store, request_):
    made = decode_one(request_)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1]))
    try:
        with pytest.raises(VireoError, match="cannot write"):
            store.put(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not [p for p in store.root.rglob("*") if p.is_file()]


def test_unwritable_store_is_an_error_with_the_path(tmp_path, request_):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VireoError, match="cannot write"):
        list(decode([request_], {"workers": 0}, tmp_path / "file"))


def test_estimate():
    assert estimate(900, {"rule": "middle", "n": 8}, {"library": "cv2", "size": 224}, (1, 1)) == (
        900 * (8 * 224 * 224 * 3 + 4096)
    )
