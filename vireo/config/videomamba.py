"""VideoMamba's zoo: config/videomamba.tsv, a row per checkpoint, as model, recipe and artifact.

Columns: `size` (t, s, m, b), `data` (`lvu_TASK` is a task of LVU), `frames`, `side` (pixels),
`kind` (empty, `masked`: fine-tuned after masked pre-training, `pretrained`: the masked pre-training
itself, `windows`: trained in windows); of the zoo's file: `bytes` (rough; none: not released); of
inference: `gpu_gb`, `mem_gb`, `batch`, `minutes` (per 1000 videos), `segments` where the table's
test has others than the benchmark; of the authors' script: `init`, `start`, `drop_path`,
`layer_decay`, `lr`, `weight_decay`, `warmup` (epochs), `floor` (start and end of the schedule),
`epochs`, `clips` (a step), `micro` (at once), `nodes` (of 8 GPUs), `note`.

`clips` is GPUs x clips of the authors' scripts; each clip comes twice (`repeats`), and learning
rates are theirs, for 256 clips a step (`model.lr_per`). Weights of the best epoch stay (`data:
{keep: last}` for the last, as their tests without --test_best). A zoo model starts the next stage,
so every row is complete by itself; `init: {recipe: …}` takes one's own.
"""

import csv
import json
from pathlib import Path
from typing import Any

from vireo.config.merging import Raw
from vireo.errors import VireoError

SIZES = {"t": ("Ti", 192, 24), "s": ("S", 384, 24), "m": ("M", 576, 32), "b": ("B", 768, 24)}
BREAKFAST = (
    *("cereals", "coffee", "tea", "pancake", "friedegg"),
    *("scrambledegg", "sandwich", "juice", "milk", "salat"),
)
HALVES = {
    "frames": {"rule": "halves_random"},
    "val_frames": {"rule": "halves_views", "segments": 1},
}
# Data -> title, classes, artifacts of annotations and videos, format and what is read otherwise.
DATA: dict[str, tuple[str, int, dict[str, str], Raw]] = {
    "in1k": ("ImageNet-1K", 1000, {}, {}),
    "k400": (
        "K400",
        400,
        {
            "annotations": "kinetics400_annotations",
            "videos": "kinetics400_train_videos",
            "val_videos": "kinetics400_videos",
        },
        {"format": "kinetics"},
    ),
    # No flip: classes tell left from right.
    "ssv2": (
        "SSv2",
        174,
        {"annotations": "ssv2_annotations", "videos": "ssv2_videos"},
        {"format": "ssv2", "flip": 0, **HALVES},
    ),
    **{
        name: (
            title,
            classes,
            {"annotations": f"{name}_annotations", "videos": f"{name}_videos"},
            {"format": name},
        )
        for name, title, classes in (
            ("breakfast", "Breakfast", 10),
            ("coin", "COIN", 180),
            ("lvu", "LVU", 1),
        )
    },
}
LVU = {"relation": 4, "speak": 5, "scene": 6, "director": 10, "genre": 4, "writer": 10, "year": 9}
# Where the head's class names come from; K400's are not in the order of the alphabet.
LABELS: dict[str, Raw] = {
    "k400": {"files": {"labels": {"artifact": "k400_videomamba_labels"}}},
    "ssv2": {"files": {"labels": {"artifact": "ssv2_annotations", "file": "*labels.json"}}},
    "breakfast": {"options": {"labels": [*BREAKFAST]}},
    "coin": {"options": {"labels": 180}},
}
MODEL: Raw = {
    "family": "videomamba",
    "fulfils": ["Classifier"],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "version": 1,
}
RECIPE: Raw = {
    "family": "videomamba",
    "precision": "bfloat16",
    "workers": 10,
    "seed": 0,
    "version": 1,
}
# The authors publish no hashes; data/lock.json keeps the first.
ARTIFACT: Raw = {
    "homepage": "https://github.com/OpenGVLab/VideoMamba/blob/main/videomamba/video_sm/MODEL_ZOO.md",
    "licence": "see the homepage",
    "sources": [
        {"type": "hf", "repo": "OpenGVLab/VideoMamba"},
        {
            "type": "http",
            "url": "https://pjlab-gvm-data.oss-cn-shanghai.aliyuncs.com/videomamba/{name}",
        },
    ],
    "by_hand": (
        "Download the file from https://huggingface.co/OpenGVLab/VideoMamba/tree/main (the zoo's "
        "links\nhave /blob/, which is a web page; /resolve/ gives the file). The zoo has no link "
        "to the masked\nmodel of 16 frames on SSv2; its name here follows that of K400.\n"
    ),
}
SMALL = {"rand_augment": "rand-m5-n2-mstd0.25-inc1"}  # of the Ti model's scripts


def read(path: str | Path) -> Raw:
    """The table as `models`, `recipes` and `artifacts`; VireoError names a row that is wrong."""
    made: Raw = {"models": {}, "recipes": {}, "artifacts": {}}
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            for number, row in enumerate(csv.DictReader(handle, delimiter="\t"), 2):
                try:
                    for section, name, block in blocks(row):
                        made[section][name] = block
                except (KeyError, ValueError, TypeError) as error:
                    raise VireoError(f"{path}, line {number}: {error!r} cannot be read") from error
    except OSError as error:
        raise VireoError(f"cannot read {path}: {error.strerror}") from error
    return made


def blocks(row: dict[str, str]) -> list[tuple[str, str, Raw]]:
    """(section, name, block) of everything that a row stands for."""
    n: dict[str, Any] = {k: json.loads(v) for k, v in row.items() if v and v[0].isdigit()}
    data, _, task = row["data"].partition("_")
    label, width, depth = SIZES[row["size"]]
    title, classes, sources, reading = DATA[data]
    side, frames, image, kind = n["side"], n["frames"], data == "in1k", row["kind"]
    masked, windows, pretrained = kind == "masked", kind == "windows", kind == "pretrained"
    if task:
        classes = LVU.get(task, 1)
    mark = {"masked": "_mask", "pretrained": "_mask_pt"}.get(kind, "")
    name = f"videomamba_{row['size']}16_{row['data']}{mark}"
    if not image and not task:
        name += f"_f{frames}"
    name += f"_res{side}" * (side != 224) + "_windows" * windows
    shape = f"{side} pixels" if image else f"{frames} x {side}"
    family = f"VideoMamba-{label}{' (masked)' * masked}"
    arch: Raw = {"width": width, "depth": depth, "num_frames": frames}
    head = {} if pretrained else {"num_classes": classes}
    found: list[tuple[str, str, Raw]] = []

    if not pretrained:
        whole = f"{family}, {title}, {shape}"
        if image:
            whole = f"{family}, {title}" + (f", {shape}" if side != 224 else "")
        if task:
            whole = f"{family}, {title} {task}{' in windows' * windows}, {shape}, trained here"
        model = {**MODEL, "title": whole, "size": side, **LABELS.get(data, {})}
        model["arch"] = arch | head | ({"image": True} if image else {})
        model["arch"] |= {"image_size": side} if side != 224 else {}
        model["weights"] = {"artifact" if "bytes" in n else "recipe": name}
        model["hardware"] = {"gpu": 1, "gpu_gb": n["gpu_gb"], "mem_gb": n["mem_gb"]}
        model["hardware"] |= {"batch": n["batch"], "minutes_per_1000": n["minutes"]}
        if "segments" in n:
            model["protocols"] = {row["data"]: {"views": {"segments": n["segments"]}}}
        found.append(("models", name, model))

    if "bytes" in n:
        of = (
            f"{family}, masked pre-training on {title}"
            if pretrained
            else f"{family}, {title}, {shape}"
        )
        file = name.replace("_mask_f", "_mask_ft_f").removesuffix(f"_res{side}")
        stages = {448: "_res224to448", 576: "_res224to448to576"} if image else {}
        file += stages.get(side, f"_res224to{side}" if side != 224 else "_res224") + ".pth"
        files = [{"name": file, "about": n["bytes"]}]
        found.append(("artifacts", name, {**ARTIFACT, "title": of, "files": files}))

    if "epochs" in n:
        recipe = {**RECIPE, "sources": sources, "init": {"artifact": row["init"]}}
        recipe["arch"] = arch | head | {"image_size": side, "drop_path": n["drop_path"]}
        on = f"{family} on {title}, {shape}"
        decay = {"betas": [0.9, 0.999], "weight_decay": n["weight_decay"]}
        floor = {"start": n["floor"], "end": n["floor"]}
        if task:
            on = f"{family} on {title}, {task}{', windows of 60 s' * windows}"
        if pretrained:
            on = f"{family}, masked pre-training on {title}"
            recipe |= {"task": "videomamba_pretrain", "model": {
                "mask": "attention", "mask_ratio": 0.8, "loss": "l2"}}  # fmt: skip
            reading = {"format": reading["format"]}  # clips are flipped on SSv2 too
            decay, floor["start"] = {**decay, "betas": [0.9, 0.95]}, 0
        else:
            recipe |= {"task": "videomamba_finetune", "model": {
                "start": row["start"], "layer_decay": n["layer_decay"]}}  # fmt: skip
            reading = {**reading, **(SMALL if row["size"] == "t" else {})}
        if row["reader"] == "plain":
            reading = {"format": reading["format"]}
        if task:
            reading |= {"task": task} | ({} if task in LVU else {"regression": True})
            reading |= {"windows": {"length": 60, "stride": 16}} if windows else {}
        recipe["data"] = reading | ({"classes": classes} if task in ("", *LVU) else {})
        recipe["title"], recipe["optim"] = on, {"lr": n["lr"], **decay}
        recipe["schedule"] = {"kind": "cosine_from_to", "warmup_epochs": n["warmup"], **floor}
        recipe |= {"epochs": n["epochs"], "batch_size": n["clips"], "micro_batch": n["micro"]}
        recipe["hardware"] = {"gpu": 8, "gpu_gb": 70, "mem_gb": 128}
        recipe["hardware"] |= {"nodes": n["nodes"]} if n["nodes"] > 1 else {}
        if row["start"] == "same":
            recipe |= {"files": LABELS[data]["files"]}
        if row["note"]:
            recipe["note"] = row["note"]
        found.append(("recipes", name, recipe))
    return found
