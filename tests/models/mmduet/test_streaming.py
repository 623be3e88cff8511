"""The frame-by-frame engine against every streaming case of the authors' code."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.models import duet
from vireo.models import mmduet
from vireo.models.mmduet import chat, streaming
from vireo.models.mmduet.chat import Outcome, Settings

STREAMING = json.loads((duet.GOLDEN / "streaming.json").read_text())
CASES = {case["name"]: case for case in STREAMING["cases"]}


@pytest.fixture(scope="module")
def model() -> mmduet.Model:
    return mmduet.load(duet.block(), duet.GOLDEN / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def embeds(model: mmduet.Model) -> torch.Tensor:
    frames = load_file(duet.GOLDEN / "tensors.safetensors")["frames_uint8"]
    return model.embed_frames(frames)


def settings_of(case: dict[str, Any]) -> Settings:
    flags = case["flags"]
    return Settings(
        fps=case["fps"],
        prob=flags["stream_end_prob_threshold"],
        sum=flags["stream_end_score_sum_threshold"],
        heads=tuple(flags["score_heads"].split(",")),
        remove_assistant_turns=flags["remove_assistant_turns"],
        repetition_penalty=flags["repetition_penalty"],
        max_new_tokens=STREAMING["max_new_tokens"],
    )


def agrees(outcome: Outcome, case: dict[str, Any], length: bool = True) -> None:
    assert outcome.generated == case["generated_ids"]
    assert outcome.said == case["model_response_list"]
    assert len(outcome.frames) == len(case["debug_data_raw"])
    for ours, theirs in zip(outcome.frames, case["debug_data_raw"], strict=True):
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, abs=1e-4), key
    if length:
        assert outcome.length == case["kv_len_end"]


def test_constants(model: mmduet.Model) -> None:
    assert STREAMING["system_prompt"] == chat.SYSTEM_PROMPT
    assert model.text.end == STREAMING["eos_token_id"]
    assert model.text.image == STREAMING["image_token_id"]
    assert model.module.frame_tokens == STREAMING["frame_num_tokens"]


@pytest.mark.parametrize("name", list(CASES))
def test_every_case(model: mmduet.Model, embeds: torch.Tensor, name: str) -> None:
    case = CASES[name]
    agrees(streaming.watch(model, embeds, case["conversation"], settings_of(case)), case)
