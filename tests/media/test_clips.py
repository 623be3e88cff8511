"""ClipBERT's clips: the frames that the reference's decoder returned, and hard counts."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.media import clips, sampling
from vireo.media.decode import DecodeRequest, decode_one

GOLDEN = Path(__file__).parents[1] / "golden/clipbert/video"
CASES = json.loads((GOLDEN / "sampling.json").read_text())


@pytest.mark.parametrize("video", CASES)
def test_frames_are_the_references(video: str) -> None:
    count = CASES[video]["meta"]["frames"]
    for case in CASES[video]["cases"]:
        n, target = case["num_frm"], case["fps"]
        strategy = case.get("sampling_strategy", "clips")
        if strategy == "rand":
            rng = random.Random(case["seed"])
            (found,) = clips.drawn(count, 20.0, rng, n, 1, target)
        else:
            every = clips.fixed(count, 20.0, n, case.get("num_clips", 1), target, strategy)
            found = every[case.get("clip_idx", 0) if strategy == "clips" else 0]
        assert found == case["frame_numbers"], case


@pytest.mark.parametrize("video", CASES)
def test_the_rule_reads_the_same_frames_from_the_file(video: str) -> None:
    rule = {"rule": "sparse_clips", "clips": 4}
    sample = decode_one(DecodeRequest(video, str(GOLDEN / f"{video}.mp4"), rule=rule))
    cases = [c for c in CASES[video]["cases"] if c["label"] == "eval_4clips"]
    assert sample.indices == [i for c in cases for i in c["frame_numbers"]]
    assert ("padded" in sample.flags) == (CASES[video]["meta"]["frames"] < 20)


@given(
    frames=st.integers(1, 5000),
    rate=st.floats(1, 120),
    n=st.integers(1, 16),
    count=st.integers(1, 16),
    seed=st.integers(0, 9),
)
def test_frames_exist_and_never_go_back(
    frames: int, rate: float, n: int, count: int, seed: int
) -> None:
    drawn = clips.drawn(frames, rate, random.Random(seed), n, count)
    for clip in (*drawn, *clips.fixed(frames, rate, n, count)):
        assert len(clip) == n and clip == sorted(clip)
        assert clip[0] >= 0 and clip[-1] < frames


def test_unknown_strategy_and_setting() -> None:
    with pytest.raises(VireoError, match="did you mean 'middle'"):
        clips.fixed(30, 20.0, strategy="midle")
    with pytest.raises(VireoError, match="did you mean 'clips'"):
        sampling.check({"rule": "sparse_clips", "clip": 2})
