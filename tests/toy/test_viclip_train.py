"""The toy pre-training set: balanced, in ViCLIP's list format, and made again byte for byte."""

import json
from collections import Counter

import pytest

from vireo.media.decode import DecodeRequest, decode_one
from vireo.toy import captions, scene, viclip_train
from vireo.training import lists


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One clip per combination, of two shapes; twice with one seed, once with another."""
    root = tmp_path_factory.mktemp("viclip_train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viclip_train, "ROUNDS", 1)
        shapes = {name: scene.SHAPES[name] for name in list(scene.SHAPES)[:2]}
        patch.setattr(scene, "SHAPES", shapes)
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            viclip_train.make(root / name, seed)
    return root


def test_every_allowed_combination_equally_often(small):
    entries = json.loads((small / "a/train.json").read_text())
    assert all(sorted(entry) == ["caption", "video"] for entry in entries)
    said = Counter()
    for entry in entries:
        words = entry["caption"].split(". ")[-1].split()
        motion = next(m for m, ways in captions.VERBS.items() if " ".join(words[3:]) in ways)
        assert not viclip_train.held_out(words[2], motion)
        said[words[1], words[2], motion] += 1
    assert set(said.values()) == {len(scene.TEXTURES)}
    assert len(said) == len(scene.COLOURS) * 2 * (len(scene.MOTIONS) - 2)
    pairs = lists.read(small / "a/train.json")  # our reader of ViCLIP's lists takes it
    assert len(pairs) == len(entries)


def test_clips_play_and_the_same_seed_gives_the_same_bytes(small):
    names = sorted(p.name for p in (small / "a/clips").iterdir())
    a, b, c = ([(small / w / "clips" / n).read_bytes() for n in names] for w in "abc")
    assert a == b and a != c
    for name in names[:5]:
        path = small / "a/clips" / name
        sample = decode_one(DecodeRequest(name, str(path), rule={"rule": "every"}))
        assert sample.status == "ok" and 10 <= len(sample.frames) < 15
        assert sample.frames.shape[1:] == (64, 64, 3)


def test_half_of_the_captions_carry_an_option_letter(small):
    entries = json.loads((small / "a/train.json").read_text())
    lettered = sum(e["caption"][1:3] == ". " for e in entries)
    assert 0.35 < lettered / len(entries) < 0.65
