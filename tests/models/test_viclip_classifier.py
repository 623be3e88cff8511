"""ViCLIP's classifier: features of the tower, start from released layouts, labels, views."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vireo import models
from vireo.errors import VireoError
from vireo.inference.engines.classifier import Classifier
from vireo.models import viclip, viclip_classifier
from vireo.nn.head_rows import rows_of

TOWER = {
    "image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2, "num_frames": 4,
}  # fmt: skip
ARCH = {**TOWER, "num_classes": 5}
WHOLE = {**TOWER, "embed_dim": 12, "text_width": 8, "text_layers": 1, "text_heads": 2}
CFG = {"arch": ARCH, "mean": [0.5] * 3, "std": [0.5] * 3, "size": 32}
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture()
def clips():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_tower_is_viclips_without_proj(clips, tmp_path) -> None:
    whole = viclip.build(WHOLE, torch.Generator().manual_seed(1)).eval()
    save_file(whole.state_dict(), tmp_path / "viclip.safetensors")
    model = viclip_classifier.build(ARCH, torch.Generator().manual_seed(2)).eval()
    assert viclip_classifier.start_from(model, tmp_path / "viclip.safetensors") == "the head is new"
    with torch.no_grad():
        features = model.vision_encoder.last(clips.transpose(1, 2))[:, 0]
        wanted = whole.encode_vision(clips)
        torch.testing.assert_close(features @ whole.vision_encoder.proj, wanted)
        torch.testing.assert_close(model(clips), model.head(features), atol=1e-6, rtol=1e-5)
    assert model(clips).abs().max() < 0.1  # scaled down at the start


def test_a_head_is_taken_over_by_names(clips, tmp_path) -> None:
    source = viclip_classifier.build(ARCH)
    path = tmp_path / "k710.safetensors"
    save_file(source.state_dict(), path, metadata={"labels": json.dumps(NAMES)})
    model = viclip_classifier.build({**ARCH, "num_classes": 2})
    said = viclip_classifier.start_from(model, path, ["d", "b"])
    assert said == "the head has 2 of 5 rows of the file, by name"
    assert torch.equal(model.head.weight, source.head.weight[[3, 1]])
    other = viclip_classifier.build({**ARCH, "num_classes": 2})
    assert viclip_classifier.start_from(other, path, ["d", "z"]) == "the head is new"


def test_it_is_loaded_as_a_classifier_with_its_labels(clips, tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    source = viclip_classifier.build(ARCH, torch.Generator().manual_seed(4)).eval()
    save_file(source.state_dict(), path, metadata={"labels": json.dumps(NAMES)})
    model = viclip_classifier.load(CFG, path)
    assert isinstance(model, models.Classifier) and model.labels == NAMES
    with torch.no_grad():
        torch.testing.assert_close(model.classify(clips), source(clips))
    longer = viclip_classifier.load({**CFG, "arch": {**ARCH, "num_frames": 8}}, path)
    assert longer.module.vision_encoder.temporal_positional_embedding.shape[1] == 8
    assert viclip_classifier.load(CFG, None).labels is None


def test_wrong_architectures_are_explained() -> None:
    with pytest.raises(VireoError, match="needs num_classes"):
        viclip_classifier.build(TOWER)
    with pytest.raises(VireoError, match="unknown key of a viclip_classifier arch 'text_width'"):
        viclip_classifier.build({**ARCH, "text_width": 8})


def test_rows_of_the_head_are_joined_by_name() -> None:
    assert rows_of(["Tai chi", "hugging_(not_baby)"], ["hugging (not baby)", "x", "tai chi"]) == [
        2,
        0,
    ]
    assert rows_of(["x", "y"], None) == [0, 1]
    with pytest.raises(VireoError, match=r"1 of 1 classes are no row .* near: tai chi"):
        rows_of(["thai chi"], ["tai chi", "abseiling"])


class Views:
    """Says which frames and crop it was shown."""

    def __init__(self):
        self.labels = ["b", "a"]

    def transform(self, frames, view):
        return torch.tensor([float(frames[:, 0, 0, 0].sum()), float(view["crop"])])

    def classify(self, clips):
        return clips


class Module:
    @staticmethod
    def classes(items):
        return ["a", "b"]


def test_views_are_segments_times_crops_in_the_classes_order() -> None:
    from types import SimpleNamespace

    import pandas as pd

    from vireo.inference.engines.base import Clip

    engine = Classifier(Views(), Module, {"views": {"segments": 2, "crops": 3}})  # type: ignore[arg-type]
    engine.prepare(pd.DataFrame(), pd.DataFrame, None)  # type: ignore[arg-type]
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[:2], frames[2:] = 1, 10
    tensor = engine.transform(frames)
    assert tensor.shape == (6, 2)
    item = SimpleNamespace(id="x")
    ((rows),) = engine.predict([Clip([item], tensor=tensor)])
    assert [row["view"] for row in rows] == [0, 1, 2, 3, 4, 5]
    # The head's rows are (b, a): the crop number comes first after the join.
    assert [row["scores"].tolist() for row in rows[:4]] == [[0, 2], [1, 2], [2, 2], [0, 20]]
    with pytest.raises(VireoError, match="3 frames are not 2 segments"):
        engine.transform(frames[:3])
