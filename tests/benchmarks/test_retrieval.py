"""Retrieval: lists in every form, sizes, prompts, and the reference's recalls from predictions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from vireo.benchmarks import retrieval
from vireo.errors import VireoError
from vireo.metrics import intervals
from vireo.metrics.scores import Metric

GOLDEN = Path(__file__).resolve().parents[1] / "golden/viclip"


def listed(tmp_path, entries, name="msrvtt_ret_test1k.json") -> dict[str, Path]:
    (tmp_path / "lists").mkdir(exist_ok=True)
    text = entries if isinstance(entries, str) else json.dumps(entries)
    (tmp_path / "lists" / name).write_text(text)
    (tmp_path / "videos/deep").mkdir(parents=True, exist_ok=True)
    return {"annotations": tmp_path / "lists", "videos": tmp_path / "videos"}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def recorded():
    """Items and predictions that hold the recorded features."""
    misc = load_file(GOLDEN / "misc.safetensors")
    video, text = unit(misc["ret.video_feats_raw"]), unit(misc["ret.text_feats_raw"])
    owner = misc["ret.text_owner"]
    order = [np.flatnonzero(owner == v) for v in range(len(video))]
    items = pd.DataFrame(
        {
            "id": [f"v{v:02d}" for v in range(len(video))],
            "options": [[f"text {t}" for t in own] for own in order],
        }
    )
    scores = [np.concatenate([video[v], *text[own]]) for v, own in enumerate(order)]
    rows = pd.DataFrame({"id": items["id"], "view": 0, "status": "ok", "scores": scores})
    return items, rows


def test_recalls_are_the_references(recorded, tmp_path) -> None:
    items, rows = recorded
    expected = json.loads((GOLDEN / "misc.json").read_text())["metrics"]
    scores = retrieval.score(items, rows, {})
    for ending, name in (("", "ret"), ("_dsl", "ret_dsl")):
        for side, (short, _) in retrieval.SIDES.items():
            for k in (1, 5, 10):
                found = scores.metrics[f"{short}_r{k}{ending}"].value
                assert round(found, 2) == expected[name][f"{side}_r{k}"]
            assert round(scores.metrics[f"{short}_mean{ending}"].value, 2) == pytest.approx(
                expected[name][f"{side}_r_mean"]
            )
        assert round(scores.metrics[f"r_mean{ending}"].value, 2) == expected[name]["r_mean"]
    (path,) = retrieval.export(items, rows, tmp_path, {})
    written = json.loads(path.read_text())
    assert written == {"plain": expected["ret"], "emb": expected["ret_dsl"]}


def test_contributions_make_an_interval_around_the_value(recorded) -> None:
    items, rows = recorded
    metric: Metric = retrieval.score(items, rows, {}).metrics["t2v_r5"]
    groups = pd.Series(items["id"].to_numpy(), index=items["id"])
    low, high = intervals.clustered_mean(
        metric.contributions, groups, metric.low, metric.high
    ).pair()
    assert low < metric.value < high
    assert metric.n == sum(map(len, items["options"]))


def test_a_missing_video_leaves_with_its_texts(recorded) -> None:
    items, rows = recorded
    fewer = rows.assign(status=["missing", *["ok"] * (len(rows) - 1)])
    scores = retrieval.score(items, fewer, {})
    assert scores.metrics["v2t_r1"].n == len(items) - 1
    assert "1 videos and their texts are left out" in scores.notes[1]
    none = retrieval.score(items, rows.assign(status="missing"), {})
    assert none.metrics["t2v_r1"].value is None


def test_changed_captions_are_noticed(recorded) -> None:
    items, rows = recorded
    other = items.assign(options=[[*options, "new"] * 3 for options in items["options"]])
    with pytest.raises(VireoError, match="infer again"):
        retrieval.score(other, rows, {})


ENTRIES = [
    {"video": "deep/0003_FILM_00.01.02.100-00.01.04.200.avi", "caption": "SOMEONE runs."},
    {"video": "b.mp4", "caption": ["A dog, running.", "It sits!"]},
    {"video": "b.mp4", "caption": "A cat"},
]


def test_lists_videos_and_prompts(tmp_path) -> None:
    sources = listed(tmp_path, ENTRIES)
    items = retrieval.items(sources, {"options": {"sizes": [2], "texts": 4}})
    assert list(items["id"]) == ["0003_FILM_00.01.02.100-00.01.04.200", "b"]
    assert items["start"].isna().all()
    plain = retrieval.prompts(items, {})
    assert plain["b"] == ["a dog running", "it sits", "a cat"]
    joined = retrieval.prompts(items, {"prompt": {"paragraph": True}})
    assert joined["b"] == ["a dog running it sits a cat"]
    (tmp_path / "videos/deep/0003_FILM_00.01.02.100-00.01.04.200.avi").write_bytes(b"x")
    (tmp_path / "videos/b.webm").write_bytes(b"x")
    assert (retrieval.videos(sources, items, {})["status"] == "found").all()
    trimmed = retrieval.items(sources, {"options": {"trim_s": 30}})
    assert trimmed[["start", "end"]].iloc[0].tolist() == [0, 30]


def test_the_csv_of_msrvtt(tmp_path) -> None:
    text = "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person is connecting\n"
    sources = listed(tmp_path, text, "MSRVTT_JSFUSION_test.csv")
    items = retrieval.items(sources, {"options": {"sizes": [1]}})
    assert items["options"][0] == ["a person is connecting"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"video": "a.mp4"}], "entry 0: `caption` must be a text"),
        ([{"caption": "x"}], "entry 0: `video` must be a file name"),
        ({"a": 1}, "video 'a': `caption` must be a text"),
        ([], "no entries"),
        (ENTRIES, "2 videos, 1000 expected; 4 captions, 1000 expected"),
        ([{"video": "x/a.mp4", "caption": "c"}, {"video": "a.mp4", "caption": "c"}], "same name"),
    ],
)
def test_bad_lists_are_named(tmp_path, entries, message) -> None:
    block = {"options": {"sizes": [1000], "texts": 1000}}
    with pytest.raises(VireoError, match=message):
        retrieval.items(listed(tmp_path, entries), block)
    if "expected" in message:
        assert len(retrieval.items(listed(tmp_path, entries), {**block, "partial": True})) == 2


def test_features_made_elsewhere(tmp_path, evaluate) -> None:
    misc = load_file(GOLDEN / "misc.safetensors")
    np.savez(
        tmp_path / "f.npz",
        video=misc["ret.video_feats_raw"],
        text=misc["ret.text_feats_raw"],
        owner=misc["ret.text_owner"],
    )
    text = evaluate("retrieval", "--features", tmp_path / "f.npz")
    assert text.startswith("plain: txt_r1 52.50, txt_r5 80.00")
    with pytest.raises(VireoError, match="file not found"):
        evaluate("retrieval", "--features", tmp_path / "none.npz")
