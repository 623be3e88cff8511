"""Views of VideoMamba against the authors' numbers, and what holds for any video."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vireo.errors import VireoError
from vireo.media import sampling, views

GOLDEN = Path(__file__).parents[1] / "golden/videomamba"
SAMPLING = json.loads((GOLDEN / "sampling.json").read_text())
PICTURES = load_file(GOLDEN / "preprocess.safetensors")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def window_frames(
    frames: int, rate: float, start: float, end: float, n: int, segments: int, segment: int
) -> list[int]:
    """`sparse` inside the frames that a window of seconds covers, the one at its end included."""
    first, last = (min(int(second * rate), frames - 1) for second in (start, end))
    return [first + i for i in views.sparse(last - first + 1, n, segments, segment)]


def name(case):
    return "-".join(str(v) for v in case.values() if not isinstance(v, list))


@pytest.mark.parametrize("case", SAMPLING["kinetics_sparse"], ids=name)
def test_sparse(case) -> None:
    count, n, segments = (case[k] for k in ("num_video_frames", "num_frames", "test_num_segment"))
    assert [views.sparse(count, n, segments, s) for s in range(segments)] == case["test"]
    assert views.sparse(count, n) == case["validation"]
    rule = {"rule": "sparse_views", "n": n, "segments": segments}
    assert sampling.pick(rule, count, 25.0).indices == [*chain(*case["test"])]


@pytest.mark.parametrize("case", SAMPLING["ssv2_video"], ids=name)
def test_halves(case) -> None:
    count, n = case["num_video_frames"], case["num_frames"]
    chunks = [views.halves(count, n, 2, s) for s in (0, 1)]
    assert chunks == [case["test_chunk0"], case["test_chunk1"]]
    assert sorted(chain(*chunks)) == case["test_all_sorted"]
    assert views.halves(count, n, 1) == case["validation"]
    rule = {"rule": "halves_views", "n": n, "segments": 2}
    assert sampling.pick(rule, count, 12.0).indices == [*chain(*chunks)]


def test_a_third_segment_of_ssv2_is_refused() -> None:
    with pytest.raises(VireoError, match="1 or 2 segments, not 3"):
        views.halves(100, 8, 3)


@pytest.mark.parametrize("case", SAMPLING["lvu"], ids=name)
def test_frames_of_a_window(case) -> None:
    at = (case["num_video_frames"], case["fps"], case["start_s"], case["end_s"])
    n, segments = case["num_frames"], case["test_num_segment"]
    found = [window_frames(*at, n, segments, s) for s in range(segments)]
    assert found == case["test"]


@pytest.mark.parametrize("case", SAMPLING["lvu_windows"], ids=name)
def test_windows(case) -> None:
    found = [
        [f"clip_{number}.mp4", start, end]
        for number, seconds in enumerate(case["durations"])
        for start, end in views.windows(seconds, case["trimmed"], case["time_stride"])
    ]
    assert found == [[video, start, end] for video, _, start, end in case["windows"]]


def test_order_of_views() -> None:
    assert [(v.segment, v.crop) for v in views.views(2, 3)] == [
        *((0, 0), (0, 1), (0, 2)),
        *((1, 0), (1, 1), (1, 2)),
    ]
    with pytest.raises(VireoError, match="at least 1"):
        views.views(0, 3)


@pytest.mark.parametrize("which", ["landscape", "portrait", "square"])
def test_pictures(which) -> None:
    small = views.short_side(PICTURES[f"{which}.frames_uint8"], 32)

    def near(crop, expected):
        made = views.normalise(crop, MEAN, STD).transpose(1, 0, 2, 3)
        np.testing.assert_allclose(made, PICTURES[f"{which}.{expected}"], atol=1e-6, rtol=0)

    for crop in range(3):
        near(views.long_side_crop(small, 32, 3, crop), f"test_crop{crop}")
    near(views.long_side_crop(small, 32, 1, 0), "test_single_crop")
    near(views.centre_crop(small, 32), "val")


def test_crops_that_do_not_fit() -> None:
    frames = np.zeros((1, 30, 40, 3), np.uint8)
    with pytest.raises(VireoError, match="crop of 32 does not fit into frames of 40 x 30"):
        views.centre_crop(frames, 32)
    with pytest.raises(VireoError, match="crop 3 of 3"):
        views.long_side_crop(frames, 30, 3, 3)


counts, lengths = st.integers(1, 5000), st.integers(1, 64)


@given(counts, lengths, st.integers(1, 10))
def test_every_choice_is_inside_and_in_order(count, n, segments) -> None:
    for segment in range(segments):
        found = views.sparse(count, n, segments, segment)
        assert len(found) == n and found == sorted(found)
        assert found[0] >= 0 and found[-1] < count
    for found in (views.halves(count, n, 2, 0), views.halves(count, n, 2, 1)):
        assert len(found) == n and found == sorted(found)
        assert found[0] >= 0 and found[-1] < count


@given(counts, lengths, st.integers(0, 2**31))
def test_training_choices(count, n, seed) -> None:
    size = (count - 1) / n
    found = views.sparse_train(count, n, np.random.default_rng(seed))
    for i, frame in enumerate(found):
        assert round(size * i) <= frame <= min(round(size * (i + 1)), count - 1)
    found = views.halves_train(count, n, np.random.default_rng(seed))
    if count < n:
        assert found == [0] * n
    else:
        assert all(i * (count // n) <= f < (i + 1) * (count // n) for i, f in enumerate(found))


def test_training_choices_reach_both_ends_of_a_stretch() -> None:
    seen = np.array([views.sparse_train(9, 2, np.random.default_rng(s)) for s in range(200)])
    assert set(seen[:, 0]) == {0, 1, 2, 3, 4} and set(seen[:, 1]) == {4, 5, 6, 7, 8}
    seen = np.array([views.halves_train(9, 2, np.random.default_rng(s)) for s in range(200)])
    assert set(seen[:, 0]) == {0, 1, 2, 3} and set(seen[:, 1]) == {4, 5, 6, 7}


@given(st.floats(0, 2000), st.floats(1, 120), st.floats(1, 60))
def test_windows_lie_in_the_video(duration, length, stride) -> None:
    found = views.windows(duration, length, stride)
    if duration < length:
        assert found == [(0, duration)]
        return
    assert found[0] == (0, length)
    for start, end in found:
        assert 0 <= start < end <= duration and length / 2 - 1e-6 <= end - start <= length + 1e-6


@given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 5))
def test_crops_cover_the_long_side(height, width, crops) -> None:
    size = min(height, width)
    frames = np.random.default_rng(0).integers(0, 255, (1, height, width, 3), np.uint8)
    found = [views.long_side_crop(frames, size, crops, c) for c in range(crops)]
    assert all(f.shape == (1, size, size, 3) for f in found)
    if crops > 1:
        np.testing.assert_array_equal(found[0], frames[:, :size, :size])
        np.testing.assert_array_equal(found[-1], frames[:, -size:, -size:])


@pytest.mark.parametrize("rate", [2, 5, 25])
def test_windows_of_a_file_are_the_references(tmp_path, rate) -> None:
    """Items of windows, decoded, show the frames that the reference computes."""
    from fractions import Fraction

    from vireo.benchmarks.actions import LAST_FRAME
    from vireo.media.decode import DecodeRequest, decode_one
    from vireo.toy import video

    grey = (np.full((32, 32, 3), n % 256, np.uint8) for n in range(rate * 21))
    count = video.write(tmp_path / "v.mp4", grey, video.Encoding(fps=Fraction(rate)))
    for start, end in views.windows(21, 8, 5):
        rule = {"rule": "sparse_views", "n": 6, "segments": 2}
        asked = (float(start), float(end) + LAST_FRAME)
        found = decode_one(DecodeRequest("v", str(tmp_path / "v.mp4"), "file", rule, None, *asked))
        want = [window_frames(count, rate, start, end, 6, 2, s) for s in (0, 1)]
        assert found.indices == [*chain(*want)]
