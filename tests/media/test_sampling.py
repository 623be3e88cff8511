"""Frame rules against the authors' numbers and against the plainest reading of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.media import sampling, views

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/viclip/misc.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["frame_indices"], ids=str)
def test_authors_samplers(case):
    if case["sample"] == "middle":
        pick = sampling.middle(case["vlen"], case["num_frames"])
        assert ("padded" in pick.flags) == (case["vlen"] < case["num_frames"])
    else:
        rule = {"rule": case["sample"], "most": case.get("max_num_frames", -1)}
        if not case["indices"]:  # the reference gives nothing; we give the middle frame, flagged
            pick = sampling.pick(rule, case["vlen"], case["input_fps"])
            assert pick == sampling.Pick([(case["vlen"] - 1) // 2], ["padded"])
            return
        pick = sampling.pick(rule, case["vlen"], case["input_fps"])
    assert pick.indices == case["indices"]


@pytest.mark.parametrize("case", GOLDEN["demo_frame_pick"], ids=lambda c: f"n={c[0]}")
def test_authors_step_rule(case):
    count, indices = case
    assert sampling.uniform_stride(count, 8) == sampling.Pick(indices, [])


def test_step_rule_pads_what_the_reference_refuses():
    assert sampling.uniform_stride(3, 8).indices == [0, 1, 2, 2, 2, 2, 2, 2]
    assert sampling.uniform_stride(3, 8).flags == ["padded"]


def extractor(frames, rate, n=32):
    """The frame extractor as a reader of its description would write it: names overwrite."""
    seg = (frames - 1) / n
    files = {}
    chosen = [(round(seg * i) + round(seg * (i + 1))) // 2 for i in range(n)]
    for number in range(frames):
        if number in chosen:
            minutes, seconds = divmod(int(number / rate), 60)
            files[f"a_b_mp4_frame_{minutes:02d}:{seconds:02d}.jpg"] = number
    return files


@given(st.integers(1, 20000), st.sampled_from([6.0, 15.0, 23.976, 25.0, 29.97, 30.0, 60.0]))
def test_default_rule_is_extractor_then_step(frames, rate):
    files = extractor(frames, rate)
    names = sorted(files)
    pick = sampling.slicer_then_stride(frames, rate)
    if len(names) >= 8:
        step = len(names) // 8
        assert pick.indices == [files[names[i * step]] for i in range(8)]
        assert pick.flags == []
    else:
        kept = [files[name] for name in names]
        assert pick.indices == kept + kept[-1:] * (8 - len(kept))
        assert pick.flags == ["padded"]
    kept = sampling.same_second(sampling.slicer(frames).indices, rate)
    assert {sampling.slicer_name("a.b.mp4", i, rate): i for i in kept} == files


def test_all_32_remain_in_a_long_video():
    middles = sampling.slicer(9000).indices
    assert len(set(middles)) == 32
    assert sampling.slicer_then_stride(9000, 30.0).indices == middles[::4]


def test_without_dedupe_a_short_video_keeps_its_middles():
    rule = {"rule": "slicer_then_stride", "n": 8, "candidates": 32, "dedupe": False, "store": True}
    assert sampling.pick(rule, 60, 30.0).indices == sampling.slicer(60).indices[::4]
    assert sampling.pick(rule, 60, 30.0).flags == []
    # 60 frames last two seconds: with the file names' rule two frames are left
    assert len(set(sampling.pick({**rule, "dedupe": True}, 60, 30.0).indices)) == 2


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(0, 99), st.integers(0, 99))
def test_random_rule_is_a_function_of_seed_epoch_index(frames, n, epoch, index):
    pick = sampling.rand(frames, n, 7, epoch, index)
    assert pick == sampling.rand(frames, n, 7, epoch, index)
    assert len(pick.indices) == n
    assert pick.indices == sorted(pick.indices)
    assert pick.indices[0] >= 0 and pick.indices[-1] < frames
    if frames >= 2 * n:  # one per interval, never its last frame
        borders = np.linspace(0, frames, n + 1).astype(int).tolist()
        for at, first, last in zip(pick.indices, borders[:-1], borders[1:], strict=True):
            assert first <= at < max(last - 1, first + 1)


@given(st.sampled_from(list(sampling.RULES)), st.integers(1, 5000), st.floats(1, 120))
def test_every_rule_stays_inside_the_video(rule, frames, fps):
    pick = sampling.pick({"rule": rule}, frames, fps)
    assert pick.indices
    assert all(0 <= i < frames for i in pick.indices)
    if not rule.endswith("_views"):  # those put one segment after another
        assert pick.indices == sorted(pick.indices)


def test_views_are_segments_one_after_another():
    kinetics = sampling.pick({"rule": "sparse_views", "n": 8, "segments": 4}, 300, 30.0).indices
    assert [kinetics[i : i + 8] for i in range(0, 32, 8)] == [
        views.sparse(300, 8, 4, segment) for segment in range(4)
    ]
    halves = sampling.pick({"rule": "halves_views", "n": 8, "segments": 2}, 48, 12.0).indices
    assert halves == [*range(0, 48, 6), *range(3, 48, 6)]


def test_typos_are_named():
    with pytest.raises(VireoError, match="did you mean 'middle'"):
        sampling.pick({"rule": "midle"}, 10, 25.0)
    with pytest.raises(VireoError, match="did you mean 'candidates'"):
        sampling.check({"rule": "slicer_then_stride", "candidate": 3})
    with pytest.raises(VireoError, match="frame rule"):
        sampling.check({"rule": "fpsfast"})


def test_frames_chosen_beforehand():
    rule = {"rule": "slicer_then_stride", "n": 8, "candidates": 32, "dedupe": True}
    assert sampling.pick_sliced(rule, 32).indices == [0, 4, 8, 12, 16, 20, 24, 28]
    assert sampling.pick_sliced(rule, 5) == sampling.Pick([0, 1, 2, 3, 4, 4, 4, 4], ["padded"])
    assert sampling.pick_sliced({"rule": "middle", "n": 2}, 10).indices == [2, 7]
