"""MMDuetIT's conversations and labels against those of the authors' data sets."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from vireo.models.mmduet import chat as talk
from vireo.models.mmduet.chat import SYSTEM_PROMPT, ChatTokenizer
from vireo.toy import mmduet as world
from vireo.training import mmduet_data, mmduet_durations

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet"
DATA = json.loads((GOLDEN / "datasets.json").read_text())
KINDS = {"dvc": "captions", "magqa": "questions", "grounding": "grounding"}


def as_drawn(case: dict[str, Any]) -> tuple[mmduet_data.Sample, tuple[dict[str, Any], ...]]:
    """Our sample with what the vectors drew at random, and its turns without the instruction."""
    annotations = DATA["annotations"][case["task"]]
    found = mmduet_data.samples(
        KINDS[case["task"]], annotations, DATA["metadata"], case["frame_fps"]
    )
    sample = found[case["index"]]
    if case["task"] == "magqa":
        first = case["conversation"][0]
        waiting = first["num_frames"] if first["role"] == "stream" else 0
        sample = mmduet_data.with_waiting(sample, waiting)
        return sample, sample.turns
    text = re.search(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", case["text_without_image"], re.S)
    assert text
    turn = {"role": "user", "content": text[1], "learn": False}
    turns = sample.turns if case["task"] == "dvc" else (turn, *sample.turns)
    return mmduet_data.replace(sample, turns=(turn, *sample.turns)), turns


@pytest.mark.parametrize("number", range(len(DATA["out"])))
def test_conversations_texts_and_labels(number: int) -> None:
    case = DATA["out"][number]
    sample, turns = as_drawn(case)
    assert list(turns) == case["conversation"]
    assert {sample.video: [sample.start, sample.end]} == case["load_ranges"]
    text, ranges = mmduet_data.render(sample.turns, SYSTEM_PROMPT, DATA["frame_num_tokens"])
    assert text.replace(talk.IMAGE, "") == case["text_without_image"]
    assert hashlib.sha1(text.encode()).hexdigest() == case["text_sha1"]
    assert [list(r) for r in ranges] == case["learn_ranges"]
    informative, relevance = mmduet_data.frame_labels(sample.turns)
    assert informative == case["informative_labels"]
    assert relevance == case["relevance_labels"]
    for most, wanted in case["max_frames_clip"].items():
        short = mmduet_data.clipped(mmduet_data.replace(sample, turns=turns), int(most))
        assert list(short.turns) == wanted["conversation"]
        assert {short.video: [short.start, short.end]} == wanted["load_ranges"]


def test_videos_without_metadata_and_bad_questions_are_left_out() -> None:
    for name, kind in KINDS.items():
        found = mmduet_data.samples(kind, DATA["annotations"][name], DATA["metadata"], 2)
        assert len(found) == {"dvc": 2, "magqa": 2, "grounding": 3}[name]


def test_tokens_and_labels_of_the_forward_vectors() -> None:
    told = json.loads((GOLDEN / "training_forward.json").read_text())
    tensors = load_file(GOLDEN / "training.safetensors")
    text = ChatTokenizer.read(GOLDEN / "base")
    for row, name in enumerate("AB"):
        turns = tuple(told["conversations"][name])
        sample = mmduet_data.Sample("", "", 2, 0, 0, turns)
        made = mmduet_data.encode(sample, text, told["system_prompt"], 49)
        assert [list(r) for r in made.ranges] == told["learn_ranges"][name]
        ids = tensors["trainAB.input_ids"][row]
        kept = ids[len(ids) - len(made.ids) :].tolist()
        assert made.ids == kept
        for key, ours in (
            ("labels", made.labels),
            ("informative_labels", made.informative),
            ("relevance_labels", made.relevance),
        ):
            theirs = tensors[f"trainAB.{key}"][row][len(ids) - len(made.ids) :].tolist()
            assert ours == theirs, (name, key)


def test_what_is_drawn_is_a_function_of_the_generator() -> None:
    assert (len(mmduet_data.NARRATE), len(mmduet_data.LOCATE)) == (10, 12)
    for name, kind in KINDS.items():
        for sample in mmduet_data.samples(kind, DATA["annotations"][name], DATA["metadata"], 2):
            one, other = (mmduet_data.drawn(sample, np.random.default_rng(3)) for _ in range(2))
            assert one == other
            roles = [turn["role"] for turn in one.turns]
            assert "user" in roles and "stream" in roles


def test_durations_are_measured_once_and_broken_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "videos"
    root.mkdir()
    world.example(root / "a.mp4")
    (root / "b.mp4").write_bytes(b"nothing")
    first = mmduet_durations.scan(root, ["a.mp4", "b.mp4", "none.mp4", "a.mp4"], workers=2)
    assert list(first) == ["a.mp4"] and first["a.mp4"]["fps"] == world.FPS
    assert first["a.mp4"]["frame_count"] == first["a.mp4"]["duration"] * world.FPS
    asked: list[str] = []
    measure = mmduet_durations.measure
    monkeypatch.setattr(mmduet_durations, "measure", lambda p: asked.append(p.name) or measure(p))
    shutil.copy(root / "a.mp4", root / "b.mp4")
    assert list(mmduet_durations.scan(root, ["a.mp4", "b.mp4"])) == ["a.mp4", "b.mp4"]
    assert asked == ["b.mp4"]
