"""The fast engine equals the frame-by-frame engine: vectors, random settings, sweeps."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.models import duet
from tests.models.mmduet.test_streaming import CASES, agrees, embeds, model, settings_of  # noqa: F401
from vireo.models import mmduet
from vireo.models.mmduet import offline, streaming
from vireo.models.mmduet.chat import HEADS, Outcome, Settings


@pytest.mark.parametrize("name", list(CASES))
def test_every_case(model: mmduet.Model, embeds: torch.Tensor, name: str) -> None:  # noqa: F811
    case = CASES[name]
    (outcome,) = offline.watch(model, embeds, case["conversation"], [settings_of(case)])
    agrees(outcome, case)


def same(ours: Outcome, theirs: Outcome) -> None:
    assert ours.generated == theirs.generated
    assert ours.said == theirs.said
    assert [f["time"] for f in ours.frames] == [f["time"] for f in theirs.frames]
    for a, b in zip(ours.frames, theirs.frames, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    assert ours.length == theirs.length


def test_a_sweep_reads_once(
    model: mmduet.Model,  # noqa: F811
    embeds: torch.Tensor,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = [
        Settings(prob=value, remove_assistant_turns=True, max_new_tokens=6)
        for value in (0.3, 0.5, 0.7, 0.9, 1.0)
    ]
    turns = [{"time": 0.0, "content": "What happens?"}]
    read: list[int] = []
    original = mmduet.MMDuet.read
    monkeypatch.setattr(mmduet.MMDuet, "read", lambda *a: read.append(len(a[1])) or original(*a))
    outcomes = offline.watch(model, embeds, turns, sweep)
    assert sum(read) == outcomes[0].length
    monkeypatch.undo()
    for one, outcome in zip(sweep, outcomes, strict=True):
        same(outcome, streaming.watch(model, embeds, turns, one))


TINY = duet.tiny(image_size=16, patch_size=2, vocab_size=264)
RANDOM: dict[int, mmduet.Model] = {}


def random_model(seed: int) -> mmduet.Model:
    """A random model whose scores spread and whose answers end."""
    if seed not in RANDOM:
        made = mmduet.load({"arch": TINY, "seed": seed}, None)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in made.module.named_parameters():
            if "norm" not in name:
                scale = 1.5 if "head" in name else 0.25
                parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        RANDOM[seed] = made
    return RANDOM[seed]


@st.composite
def any_settings(draw: Any) -> Settings:
    kind = draw(st.sampled_from(["prob", "sum", "none"]))
    return Settings(
        fps=2.0,
        prob=draw(st.floats(0.05, 1.2)) if kind == "prob" else None,
        sum=draw(st.floats(0.3, 3)) if kind == "sum" else None,
        heads=draw(st.sampled_from([HEADS[:1], HEADS[1:], HEADS])),
        remove_assistant_turns=draw(st.booleans()),
        repetition_penalty=draw(st.sampled_from([None, None, 1.3])),
        max_new_tokens=draw(st.integers(1, 5)),
        query_order=draw(st.sampled_from(["before_frame", "after_frame"])),
        system_prompt=draw(st.sampled_from(["reference", "always"])),
        system_text="Watch.",
    )


QUIET = Settings(prob=0.5, heads=HEADS[1:], system_text="Watch.", max_new_tokens=1)


@example(seed=1, count=1, times=[], chosen=[replace(QUIET, heads=HEADS[:1]), QUIET])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2),
    count=st.integers(1, 9),
    times=st.lists(st.sampled_from([0.0, 0.0, 0.5, 0.7, 1.0, 2.0, 3.1, 99.0]), max_size=3),
    chosen=st.lists(any_settings(), min_size=1, max_size=4),
)
def test_equals_the_plain_engine(
    seed: int, count: int, times: list[float], chosen: list[Settings]
) -> None:
    one = random_model(seed)
    generator = torch.Generator().manual_seed(seed + count)
    frames = torch.randn(count, one.module.frame_tokens, 32, generator=generator)
    turns = [{"time": t, "content": f"q{k}"} for k, t in enumerate(times)]
    for ours, given_settings in zip(offline.watch(one, frames, turns, chosen), chosen, strict=True):
        same(ours, streaming.watch(one, frames, turns, given_settings))


def test_pieces_of_a_long_reading(
    model: mmduet.Model,  # noqa: F811
    embeds: torch.Tensor,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offline, "CHUNK", 100)
    for name in ("dvc_rm_sum1.0", "magqa_keep_thr0.9"):
        case = CASES[name]
        (outcome,) = offline.watch(model, embeds, case["conversation"], [settings_of(case)])
        agrees(outcome, case)
