"""Classes against videos: the reference's zero-shot similarities through the engine, texts kept."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from vireo.inference.engines.base import Clip
from vireo.inference.engines.dual_encoder import DualEncoder

GOLDEN = Path(__file__).resolve().parents[1] / "golden/viclip/misc.safetensors"


class Recorded:
    """A model whose "clips" are recorded video features and whose texts are numbers of prompts."""

    logit_scale = 100.0

    def __init__(self) -> None:
        misc = load_file(GOLDEN)
        self.texts = F.normalize(misc["zs.text_feats_raw"].flatten(0, 1), dim=-1)
        self.videos, self.wanted = misc["zs.video_feats_raw"], misc["zs.sims_v2t"]
        self.asked = 0

    def transform(self, frames, view):
        return frames

    def embed_video(self, clips: torch.Tensor) -> torch.Tensor:
        return F.normalize(clips, dim=-1)

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        self.asked += len(texts)
        return self.texts[[int(text) for text in texts]]


def clips(model: Recorded) -> list[Clip]:
    rows = [SimpleNamespace(id=f"v{i}", options=[]) for i in range(len(model.videos))]
    return [Clip([row], tensor=video) for row, video in zip(rows, model.videos, strict=True)]


def test_class_scores_are_the_references_and_texts_are_embedded_once(tmp_path) -> None:
    groups = [[str(16 * c + p) for p in range(16)] for c in range(24)]
    module = SimpleNamespace(PREDICTS="classes", shared_texts=lambda items, protocol: groups)
    model = Recorded()
    for again in range(2):
        engine = DualEncoder(model, module, {})  # type: ignore[arg-type]
        engine.prepare(pd.DataFrame(), pd.DataFrame, tmp_path / "key")
        assert model.asked == 24 * 16, again
        rows = [row for made in engine.predict(clips(model)) for row in made]
        found = np.stack([row["scores"] for row in rows])
        np.testing.assert_allclose(found, model.wanted.numpy(), atol=2e-6)
        assert [int(row["prediction"]) for row in rows] == found.argmax(1).tolist()
    assert len(list((tmp_path / "key").glob("*.safetensors"))) == 1


def test_pairs_are_the_video_followed_by_its_texts(tmp_path) -> None:
    model = Recorded()
    texts = {f"v{i}": ["3", str(i)] for i in range(len(model.videos))}
    module = SimpleNamespace(PREDICTS="pairs", prompts=lambda items, protocol: texts)
    engine = DualEncoder(model, module, {})  # type: ignore[arg-type]
    engine.prepare(pd.DataFrame(), pd.DataFrame, tmp_path)
    (row,) = engine.predict(clips(model)[7:8])[0]
    video, first, second = row["scores"].reshape(3, -1)
    np.testing.assert_allclose(video, F.normalize(model.videos[7], dim=-1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(first, model.texts[3].numpy())
    np.testing.assert_array_equal(second, model.texts[7].numpy())
