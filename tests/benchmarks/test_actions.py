"""Supervised recognition: lists of each form, merged views, and a head in another order."""

import json

import numpy as np
import pandas as pd
import pytest

from vireo.benchmarks import actions
from vireo.errors import VireoError
from vireo.metrics import views

SSV2 = [
    {"id": "7", "label": "pushing pen", "template": "Pushing [something]", "placeholders": ["pen"]},
    {"id": "9", "label": "x", "template": "Lifting [something] up", "placeholders": ["x"]},
]


def sources(tmp_path, name: str, text: str):
    (tmp_path / "lists").mkdir(exist_ok=True)
    (tmp_path / "videos/deep").mkdir(parents=True, exist_ok=True)
    (tmp_path / "lists" / name).write_text(text)
    return {"annotations": tmp_path / "lists", "videos": tmp_path / "videos"}


def test_something_something(tmp_path) -> None:
    given = sources(tmp_path, "something-something-v2-validation.json", json.dumps(SSV2))
    block = {"options": {"format": "ssv2", "classes": 2}}
    items = actions.items(given, block)
    assert list(items["answer"]) == ["Pushing something", "Lifting something up"]
    (tmp_path / "videos/deep/7.webm").write_bytes(b"x")
    assert actions.videos(given, items, block)["status"].tolist() == ["found", "missing"]
    with pytest.raises(VireoError, match="2 classes, 174 expected"):
        actions.items(given, {"options": {"format": "ssv2", "classes": 174}})


@pytest.mark.parametrize("text", ["a/b c.mp4,10\nd.mp4,2\n", "a/bc.mp4 10\nd.mp4 2\n"])
def test_lists_of_paths_and_numbers(tmp_path, text) -> None:
    given = sources(tmp_path, "val.csv", text)
    items = actions.items(given, {"options": {"format": "list"}})
    assert list(items["answer"]) == ["10", "2"]
    assert actions.classes(items) == ["2", "10"]
    (tmp_path / "lists/names.txt").write_text("\n".join(f"class {n}" for n in range(11)))
    named = actions.items(given, {"options": {"format": "list", "labels": "names.txt"}})
    assert list(named["answer"]) == ["class 10", "class 2"]


def test_kinetics_training_list(tmp_path) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    given = sources(tmp_path, "train.csv", head + "abseiling,abcdefghijk,1,11,train\n")
    items = actions.items(given, {"options": {"format": "kinetics", "split": "train"}})
    assert items["split"].tolist() == ["train"]


@pytest.mark.parametrize(
    ("form", "name", "text", "message"),
    [
        ("list", "val.csv", "only\n", "line 1: write"),
        ("list", "val.csv", "a.mp4,1\na.mp4,2\n", "'a.mp4' occurs more than once"),
        ("ssv2", "validation.json", "[{}]", "entry 0: needs `id` and `template`"),
        ("sssv2", "validation.json", "[]", "did you mean 'ssv2'"),
        ("list", "other.json", "[]", "no list"),
    ],
)
def test_bad_lists_are_named(tmp_path, form, name, text, message) -> None:
    with pytest.raises(VireoError, match=message):
        actions.items(sources(tmp_path, name, text), {"options": {"format": form}})


def rows_of(logits: np.ndarray) -> pd.DataFrame:
    """[N,V,K] -> rows of every view."""
    return pd.DataFrame(
        [
            {"id": f"v{n}", "view": v, "status": "ok", "scores": one}
            for n, video in enumerate(logits.astype(np.float32))
            for v, one in enumerate(video)
        ]
    )


def items_of(labels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": [f"v{n}" for n in range(len(labels))], "answer": [f"c{x}" for x in labels]}
    )


def test_views_are_merged_by_their_softmax() -> None:
    logits = np.zeros((3, 2, 3))
    logits[0] = [[5, 0, 0], [0, 20, 0]]  # logits alone would say class 1
    logits[1] = [[0, 9, 0], [0, 9, 0]]
    logits[2] = [[0, 0, 9], [9, 0, 0]]
    scores = actions.score(items_of(np.array([0, 1, 2])), rows_of(logits), {})
    assert scores.metrics["top5"].value == 100
    merged = views.merge(logits[0])
    assert merged.sum() == pytest.approx(1) and merged[1] == pytest.approx(0.5, abs=0.02)
    partial = rows_of(logits)
    partial.loc[partial["id"] == "v1", "status"] = "error"
    assert actions.score(items_of(np.array([0, 1, 2])), partial, {}).metrics["top1"].n == 2


def test_a_permuted_head_is_noticed(tmp_path) -> None:
    labels = np.arange(40) % 5
    right = np.eye(5)[labels][:, None] * 9
    good = actions.score(items_of(labels), rows_of(right), {})
    assert good.metrics["top1"].value == 100 and len(good.notes) == 1
    permuted = actions.score(items_of(labels), rows_of(right[..., [1, 2, 3, 4, 0]]), {})
    assert permuted.metrics["top1"].value == 0
    assert "class order looks permuted" in permuted.notes[0]
    (path,) = actions.export(items_of(labels), rows_of(right), tmp_path, {})
    assert path.read_text().splitlines()[1].startswith("v0,c0,c0,")


def test_views_made_elsewhere(tmp_path, evaluate) -> None:
    logits = np.array([[5.0, 0], [4, 0], [0, 1]])
    np.savez(tmp_path / "v.npz", logits=logits, id=["a", "a", "b"], label=[0, 0, 0])
    text = evaluate("actions", "--views", tmp_path / "v.npz")
    assert '"ties": "lowest", "tied": 0}\ntop-1: 50.00\ntop-5: 100.00' in text
