"""The accumulated clock and the black borders against plain loops and OpenCV calls."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.media import mmduet_frames, resize, sampling


def test_a_video_of_thirty_a_second() -> None:
    # Half a second is 15 frames, but the sum stands just below 0.5 there.
    assert mmduet_frames.accumulated(90, 30.0, 2.0) == [0, 16, 31, 45, 60, 75]
    assert mmduet_frames.accumulated(91, 30.0, 1.0) == [0, 31, 60]
    assert (
        mmduet_frames.accumulated(100, 25.0, 2.0, most=3)
        == mmduet_frames.accumulated(100, 25.0, 2.0)[:3]
    )


@pytest.mark.parametrize(("rounding", "count"), [("ceil", 4), ("floor", 3)])
def test_rounding_of_the_number_of_frames(rounding: str, count: int) -> None:
    assert len(mmduet_frames.accumulated(80, 25.0, 1.0, rounding=rounding)) == count


@given(
    frames=st.integers(1, 2000),
    rate=st.floats(5, 120),
    target=st.floats(0.2, 8),
    most=st.integers(1, 400),
)
def test_frames_rise_and_stay_inside(frames: int, rate: float, target: float, most: int) -> None:
    chosen = mmduet_frames.accumulated(frames, rate, target, most)
    assert chosen[0] == 0
    assert all(a < b < frames for a, b in itertools.pairwise(chosen))
    assert len(chosen) <= most
    for number, frame in enumerate(chosen):
        assert frame / rate >= number / target - 1e-6


def test_a_source_slower_than_the_target_gives_fewer() -> None:
    assert mmduet_frames.accumulated(10, 1.0, 4.0) == list(range(10))


def test_a_number_over_the_whole_video() -> None:
    assert len(mmduet_frames.accumulated(300, 30.0, 0, most=20)) == 20


def test_rule_and_resize_by_name() -> None:
    pick = sampling.pick({"rule": "accumulated", "target": 1.0, "most": 4}, 250, 25.0)
    assert pick.indices == mmduet_frames.accumulated(250, 25.0, 1.0, 4)
    fit = resize.make({"library": "cv2", "fit": "letterbox", "size": 54})
    picture = np.random.default_rng(0).integers(0, 255, (33, 97, 3), dtype=np.uint8)
    assert np.array_equal(fit(picture), mmduet_frames.letterbox(picture, 54))
    with pytest.raises(VireoError, match="letterbox"):
        resize.make({"library": "pil", "fit": "letterbox", "size": 54})
    with pytest.raises(VireoError, match="ceil"):
        mmduet_frames.accumulated(10, 1.0, rounding="cel")


@pytest.mark.parametrize("shape", [(33, 97), (97, 33), (40, 40), (384, 384), (240, 320)])
def test_letterbox(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(1, 255, (*shape, 3), dtype=np.uint8)
    size, (height, width) = 384, shape
    ours = mmduet_frames.letterbox(picture, size)
    wide, high = int(width / height * size), size
    if width > height:
        wide, high = size, int(height / width * size)
    small = cv2.resize(picture, (wide, high))
    across, down = size - wide, size - high
    borders = (down // 2, down - down // 2, across // 2, across - across // 2)
    theirs = cv2.copyMakeBorder(small, *borders, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    assert np.array_equal(ours, theirs)
    box = resize.bytes_per_frame({"library": "cv2", "fit": "letterbox", "size": size}, *shape)
    assert box == ours.nbytes
