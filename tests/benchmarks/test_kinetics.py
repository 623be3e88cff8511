"""Zero-shot Kinetics: annotations, prompts, files by id, scores and the two exported tables."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from vireo.benchmarks import kinetics
from vireo.errors import VireoError
from vireo.nn.templates import TEMPLATES, expand

GOLDEN = Path(__file__).resolve().parents[1] / "golden/viclip"
HEAD = "label,youtube_id,time_start,time_end,split\n"
CSV = HEAD + (
    "playing volleyball,abcdefghijk,10,20,val\n"
    '"passing American football (in game)",-b_defghijk,0,10,val\n'
    "tai chi,Zbcdefghi-_,7,17,val\n"
    "abseiling,other_train,7,17,train\n"
    "tai chi,gonegonegon,3,13,val\n"
)
THREE = {"options": {"classes": 3, "release": "2017"}, "title": "Kinetics-3"}


def folder(tmp_path: Path, text: str = CSV, name: str = "val.csv") -> dict[str, Path]:
    root = tmp_path / "annotations/kinetics400"
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return {"annotations": tmp_path / "annotations", "videos": tmp_path / "videos"}


def predictions(items: pd.DataFrame, scores: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {
            "id": id,
            "view": 0,
            "group": "",
            "status": "ok" if id in scores else "missing",
            "scores": np.array(scores.get(id, []), np.float32),
        }
        for id in items["id"]
    ]
    return pd.DataFrame(rows)


def test_templates_are_the_references() -> None:
    sets = json.loads((GOLDEN / "misc.json").read_text())
    for name in ("action16", "clip28"):
        assert list(TEMPLATES[name]) == sets["prompt_templates_normalised"][name]
    for name, prompts in sets["prompt_expansion"].items():
        assert expand(name) == prompts


def test_official_csv(tmp_path) -> None:
    items = kinetics.items(folder(tmp_path), THREE)
    assert list(items["id"]) == [
        "abcdefghijk_000010_000020",
        "-b_defghijk_000000_000010",
        "Zbcdefghi-__000007_000017",
        "gonegonegon_000003_000013",
    ]
    assert set(items["split"]) == {"val"}
    assert kinetics.classes(items) == [
        "passing American football (in game)",
        "playing volleyball",
        "tai chi",
    ]
    assert items["start"].isna().all()
    texts = kinetics.shared_texts(items, {"prompt": {"templates": "action16"}})
    assert [len(group) for group in texts] == [16] * 3
    assert texts[0][7] == "passing american football in game"


def test_clips_cut_out_of_whole_videos_by_option(tmp_path) -> None:
    block = {"options": {**THREE["options"], "trim": True}}
    items = kinetics.items(folder(tmp_path), block)
    assert items.loc[0, ["start", "end"]].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("tai chi", "playing volleyball"), "2 classes, 3 expected"),
        (HEAD, "no rows below the header"),
        (CSV.replace("youtube_id", "id"), "no column youtube_id"),
        (CSV.replace(",7,17,val", ",x,17,val"), "line 4: time_start and time_end must be seconds"),
        (CSV.replace("abcdefghijk", "../../../x"), "is refused"),
        (CSV.replace("abcdefghijk", ""), "line 2: empty youtube_id"),
    ],
)
def test_bad_annotations_are_named(tmp_path, text, message) -> None:
    with pytest.raises(VireoError, match=message.replace("(", r"\(")):
        kinetics.items(folder(tmp_path, text), THREE)


def test_another_number_of_clips(tmp_path) -> None:
    sources = folder(tmp_path)
    with pytest.raises(VireoError, match="4 clips, 5 expected"):
        kinetics.items(sources, {**THREE, "rows": {"val": 5}})
    assert len(kinetics.items(sources, {**THREE, "rows": {"val": 5}, "partial": True})) == 4


def test_json_list_of_the_reference(tmp_path) -> None:
    entries = [
        {"video": "val/abcdefghijk_000010_000020.mp4", "caption": "playing_volleyball"},
        {"video": "val/qq.mp4", "caption": "passing_american_football_(in_game)"},
        {"video": "val/rr.mp4", "caption": "tai chi"},
    ]
    sources = folder(tmp_path, json.dumps(entries), "k400_act_val.json")
    alone = kinetics.items(sources, THREE)
    assert list(alone["answer"]) == [e["caption"] for e in entries]
    folder(tmp_path)  # the official list beside it: names are those
    block = {"options": {"classes": 3, "list": "k400_act_val.json"}}
    joined = kinetics.items(sources, block)
    assert joined["answer"][1] == "passing American football (in game)"
    entries[0]["caption"] = "playing voleyball"
    folder(tmp_path, json.dumps(entries), "k400_act_val.json")
    with pytest.raises(VireoError, match="near: playing volleyball"):
        kinetics.items(sources, block)


def test_files_are_found_by_id_in_all_usual_spellings(tmp_path) -> None:
    sources = folder(tmp_path)
    items = kinetics.items(sources, THREE)
    deep = tmp_path / "videos/val/some_class"
    deep.mkdir(parents=True)
    for name in (
        "abcdefghijk_000099_000109.mp4",  # another clip of the same video
        "abcdefghijk_10_20.webm",
        "-b_defghijk.mkv",
        "Zbcdefghi-__000007_000017.mp4",
        "Zbcdefghi-_.mp4",
        "gonegonegon_4.mp4",
    ):
        (deep / name).write_bytes(b"x")
    found = kinetics.videos(sources, items, THREE).set_index("video")
    names = [Path(p).name if isinstance(p, str) else None for p in found["path"]]
    assert names == ["abcdefghijk_10_20.webm", "-b_defghijk.mkv", f"{items['id'][2]}.mp4", None]
    assert found["status"].tolist() == ["found"] * 3 + ["missing"]


def test_scores_bounds_and_missing_clips(tmp_path) -> None:
    items = kinetics.items(folder(tmp_path), THREE)
    ids = list(items["id"])
    rows = predictions(
        items,
        {
            ids[0]: [0.1, 0.9, 0.2],  # right
            ids[1]: [0.1, 0.9, 0.2],  # wrong
            ids[2]: [0.1, 0.2, 0.9],  # right
        },
    )
    scores = kinetics.score(items, rows, THREE)
    top1 = scores.metrics["top1"]
    assert (top1.n, round(top1.value, 2)) == (3, 66.67)
    assert scores.metrics["top5"].value == 100
    assert round(scores.metrics["avg"].value, 2) == 83.33
    assert (top1.low, top1.high) == (0, 100)
    assert round(scores.chance, 2) == 33.33
    assert "release 2017, 3 classes, 4 clips" in scores.notes[0]


def test_no_prediction_at_all(tmp_path) -> None:
    items = kinetics.items(folder(tmp_path), THREE)
    assert kinetics.score(items, predictions(items, {}), THREE).metrics["top1"].value is None
    kinetics.export(items, predictions(items, {}), tmp_path / "out", THREE)


def test_scores_of_other_classes_are_refused(tmp_path) -> None:
    items = kinetics.items(folder(tmp_path), THREE)
    with pytest.raises(VireoError, match="2 scores for 3 classes"):
        kinetics.score(items, predictions(items, {items["id"][0]: [0.1, 0.2]}), THREE)


def test_the_zero_shot_vectors_give_the_references_numbers() -> None:
    misc = load_file(GOLDEN / "misc.safetensors")
    expected = json.loads((GOLDEN / "misc.json").read_text())["metrics"]
    labels, sims = misc["zs.labels"], misc["zs.sims_v2t"]
    items = pd.DataFrame(
        {
            "id": [f"v{i:03d}" for i in range(len(labels))],
            "answer": [f"class {label:02d}" for label in labels],
        }
    )
    assert len(kinetics.classes(items)) == sims.shape[1]
    rows = predictions(items, dict(zip(items["id"], sims, strict=True)))
    scores = kinetics.score(items, rows, {})
    for ours, theirs in (("top1", "txt_r1"), ("top5", "txt_r5")):
        assert round(scores.metrics[ours].value, 2) == expected["zs"][theirs]
        dual = scores.breakdowns["other"][ours][0]
        assert round(dual, 2) == expected["zs_dsl"][theirs]


def test_exported_tables_are_scored_by_evaluate(tmp_path, evaluate) -> None:
    sources = folder(tmp_path)
    items = kinetics.items(sources, THREE)
    ids = list(items["id"])
    rows = predictions(items, {ids[0]: [0.1, 0.9, 0.2], ids[1]: [0.1, 0.9, 0.2]})
    best, per_class = kinetics.export(items, rows, tmp_path / "out", THREE)
    assert best.read_text().splitlines()[0] == "id,label,top1,top2,top3"
    assert "playing volleyball,1,100.00,100.00" in per_class.read_text()
    files = ("--annotations", sources["annotations"], "--predictions", best, "--classes", 3)
    with pytest.raises(VireoError, match=r"2 of 4 ids of .* have a prediction"):
        evaluate("kinetics", *files)
    text = evaluate("kinetics", *files, "--max_unmatched", 1)
    assert "clips: 2 of 4\ntop-1: 50.00\ntop-5: 100.00\nAVG: 75.00" in text


def test_scoring_needs_no_torch() -> None:
    code = "import sys, vireo.benchmarks.kinetics; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
