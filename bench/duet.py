"""MMDuet: whole videos at once against the reference's frame-by-frame procedure, same weights.

Claims: scores of 150 frames in at least 5x fewer CPU seconds where one frame is not compute-bound
(the toy model's 4 tokens a frame), 1.5x where attention over 7,400 tokens is most of the work (49
tokens a frame), never slower at a larger width; five thresholds with their answers in less than
1.3x the time of one. The reference procedure: one forward pass a frame, a cache that is
concatenated anew every time, low-rank adapters not merged, all logits of every token.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from transformers import DynamicCache

from vireo.models import mmduet
from vireo.models.mmduet import chat as talk
from vireo.models.mmduet import streaming
from vireo.models.mmduet.chat import Settings
from vireo.nn import lora

SWEEP = 1.3
# name -> hidden, layers, vocabulary, patches a side of the tower (27: 49 tokens a frame), claim
SIZES = {
    "toy": (128, 3, 260, 8, 5.0),
    "narrow": (64, 4, 4096, 27, 1.5),
    "wide": (384, 3, 4096, 27, 1.0),
}


def model_of(
    hidden: int, layers: int, vocabulary: int, side: int
) -> tuple[mmduet.Model, mmduet.Model]:
    """The same random model twice: adapters merged, and apart as the reference runs them."""
    arch: dict[str, Any] = {
        "hidden_size": hidden, "intermediate_size": 3 * hidden, "layers": layers, "heads": 4,
        "kv_heads": 2, "vocab_size": vocabulary, "tokenizer": "bytes", "pool_stride": 4,
        "vision": {"hidden_size": 32, "intermediate_size": 32, "layers": 1, "heads": 2,
                   "image_size": 2 * side, "patch_size": 2},
    }  # fmt: skip
    ours, theirs = (mmduet.load({"arch": arch, "seed": 0}, None) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    adapter = lora.Adapter(2.0)
    for name, part in ours.module.model.language_model.named_modules():
        if isinstance(part, torch.nn.Linear):
            a = 0.02 * torch.randn(16, part.in_features, generator=generator)
            b = 0.02 * torch.randn(part.out_features, 16, generator=generator)
            part.weight.data += 2.0 * b @ a
            adapter.pairs[f"model.language_model.{name}"] = (a, b)
    lora.attach(theirs.module, adapter)
    for one in (ours, theirs):
        for head in (one.module.informative_head, one.module.relevance_head):
            head.weight.data = torch.randn(head.weight.shape, generator=generator.manual_seed(2))
    return ours, theirs


def reference(model: mmduet.Model, frames: torch.Tensor, question: str) -> list[float]:
    """Scores frame by frame, as the reference's loop computes them."""
    language = model.module.model.language_model
    language.set_attn_implementation("sdpa")
    cache, scores = DynamicCache(), []

    def feed(embeds: torch.Tensor) -> torch.Tensor:
        out = language(inputs_embeds=embeds[None], past_key_values=cache, use_cache=True)
        model.module.lm_head(out.last_hidden_state).float()
        return out.last_hidden_state[0, -1:]

    with torch.inference_mode():
        first = talk.user(question) + talk.STREAM
        feed(model.embed_text(first))
        for frame in frames:
            scores.append(float(model.scores(feed(frame))[0, 1]))
    language.set_attn_implementation("vireo_streaming")
    return scores


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """(CPU seconds, result); the better of two."""
    best, result = float("inf"), None
    for _ in range(2):
        began = time.process_time()
        result = run()
        best = min(best, time.process_time() - began)
    return best, result


def compare(name: str, count: int) -> bool:
    """One size: print the ratio; whether its claim holds."""
    hidden, layers, vocabulary, side, claim = SIZES[name]
    ours, theirs = model_of(hidden, layers, vocabulary, side)
    tokens = ours.module.frame_tokens
    frames = torch.randn(count, tokens, hidden, generator=torch.Generator().manual_seed(3))
    turns = [{"time": 0.0, "content": "Where is it?"}]
    silent = Settings(fps=1.0)
    slow, scores = timed(lambda: reference(theirs, frames, "Where is it?"))
    steps, _ = timed(lambda: streaming.watch(ours, frames, turns, silent))
    fast, (outcome,) = timed(lambda: ours.watch(frames, turns, [silent]))
    found = [frame["relevance_score"] for frame in outcome.frames]
    gap = max(abs(a - b) for a, b in zip(scores, found, strict=True))
    print(
        f"duet {name}: {count} frames of {tokens} tokens, reference {slow:.2f} s, our frame by "
        f"frame {steps:.2f} s, whole {fast:.3f} s: {slow / fast:.1f}x (claim {claim}x), scores "
        f"differ by {gap:.1e}",
        flush=True,
    )
    good = slow / fast >= claim and gap < 1e-3
    if name == "narrow":
        level = sorted(frame["informative_score"] for frame in outcome.frames)
        sweep = [
            Settings(fps=1.0, prob=level[-k], remove_assistant_turns=True, max_new_tokens=20)
            for k in (2, 3, 4, 5, 6)
        ]
        one, _ = timed(lambda: ours.watch(frames, turns, sweep[-1:]))
        five, _ = timed(lambda: ours.watch(frames, turns, sweep))
        print(f"duet sweep: five thresholds {five / one:.2f}x one (claim < {SWEEP}x)")
        good &= five / one < SWEEP
    return good


def main() -> int:
    """Print each ratio; exit status 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    return 0 if all([compare(name, args.frames) for name in SIZES]) else 1


if __name__ == "__main__":
    sys.exit(main())
