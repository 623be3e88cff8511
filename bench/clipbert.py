"""ClipBERT on SQA3D: a scene's pictures once, questions in batches, against one by one.

Claim: >= 3x less wall time in float32 with the same answers, full-size model with random weights.
The load is the test split's scaled down (3,519 questions on 67 scenes are 52 per scene). The
reference procedure passes the pictures of every question through the backbone and pads every
question to 100 tokens.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor

from vireo.models import clipbert

TEXT = """i am standing by the table facing window with chair on my left right behind sitting what
is how many can see which direction should go to reach door color of sofa in front ?"""
WORDS = TEXT.split()
BATCH, TOKENS = 4, 100


def model() -> clipbert.Model:
    """Random weights at full size, scaled so that answers differ between questions."""
    module = clipbert.build({}, torch.Generator().manual_seed(0))
    for norm in module.modules():
        if isinstance(norm, torch.nn.Linear):
            norm.weight.data.mul_(2)
    transform = clipbert.Transform([0.485, 0.456, 0.406], [1 / 255] * 3, 448)
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder, "vocab.txt")
        vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(WORDS)]))
        return clipbert.Model(module, transform, clipbert.Tokenizer(vocab), [])


def ours(net: clipbert.Model, scenes: Tensor, owner: list[int], questions: list[str]) -> Tensor:
    """Visual features once per scene; questions of like length together."""
    features = net.encode(scenes)
    order = sorted(range(len(questions)), key=lambda n: len(questions[n]))
    made: dict[int, Tensor] = {}
    for first in range(0, len(order), 16):
        chosen = order[first : first + 16]
        logits = net.answer(
            features, [owner[n] for n in chosen], [questions[n] for n in chosen], TOKENS
        )
        made.update(zip(chosen, net.aggregate(logits), strict=True))
    return torch.stack([made[n] for n in range(len(questions))])


@torch.inference_mode()
def reference(
    net: clipbert.Model, scenes: Tensor, owner: list[int], questions: list[str]
) -> Tensor:
    """Every question brings its own pictures."""
    made = []
    for first in range(0, len(questions), BATCH):
        ids, mask = net.tokenizer(questions[first : first + BATCH], TOKENS)
        grids = net.module.encode(scenes[owner[first : first + BATCH]])
        made.append(net.aggregate(net.module(ids, mask, grids)))
    return torch.cat(made)


def main() -> int:
    """Measure both, compare the answers, print one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 scene with 12 questions")
    scenes, each = (1, 12) if parser.parse_args().quick else (2, 26)
    rng = np.random.default_rng(0)
    net = model()
    frames = rng.integers(0, 256, (scenes, 2, 7, 7, 3), np.uint8)
    frames = frames.repeat(32, axis=2).repeat(32, axis=3)
    clips = torch.stack([net.transform(pair) for pair in frames])[:, None]
    owner = [n for n in range(scenes) for _ in range(each)]
    questions = [" ".join(rng.choice(WORDS, rng.integers(14, 40))) for _ in owner]
    found, seconds = {}, {}
    for name, way in (("ours", ours), ("reference", reference)):
        began = time.perf_counter()
        found[name] = way(net, clips, owner, questions)
        seconds[name] = time.perf_counter() - began
    apart = (found["ours"] - found["reference"]).abs().max().item()
    equal = torch.equal(found["ours"].argmax(1), found["reference"].argmax(1)) and apart < 1e-4
    ratio = seconds["reference"] / seconds["ours"]
    good = equal and ratio >= 3
    print(
        f"ClipBERT, {scenes} scenes with {each} questions, >= 3x | ours {seconds['ours']:.1f} s | "
        f"reference {seconds['reference']:.1f} s | {ratio:.1f}x | "
        f"{'equal' if equal else 'NOT EQUAL'} (logits within {apart:.0e}) | "
        f"{'yes' if good else 'NO'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
