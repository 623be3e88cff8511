"""Fine-tuning ViCLIP for action recognition; the recipe is UMT's, the same group's public one.

Recipe: `sources`: annotations, videos, optionally val_annotations and val_videos; `data`: as in
`DATA` (lists: vireo/benchmarks/actions.py); `model`: layer_decay; `init`: a ViCLIP, CLIP or
fine-tuned file. Classes are the sorted names of the training list and go into the weights file.
Facts: reference/viclip.md section 6.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.benchmarks import actions
from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.media.pool import DEFAULTS as DECODE
from vireo.models import viclip_classifier
from vireo.run.console import log
from vireo.training import Batch, Metrics, Step, seeds, strong
from vireo.training import Task as Protocol
from vireo.training.augment import augment
from vireo.training.clips import Clips
from vireo.training.lists import Pair

DATA = {
    "format": "kinetics",
    "list": None,
    "val_list": None,
    "labels": None,
    "separator": None,
    "classes": None,
    "frames": {"rule": "sparse_random", "n": 8},
    "val_frames": {"rule": "sparse_views", "n": 8, "segments": 1},
    "repeats": 2,
    "rand_augment": "rand-m7-n4-mstd0.5-inc1",
    "scale": [0.08, 1.0],
    "flip": 0.5,
    "erase": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "cache_decoded": False,
    "validate": True,
}
MODEL = {"layer_decay": 1.0}
NO_DECAY = ("class_embedding", "positional_embedding", "temporal_positional_embedding")


class Samples:
    """Clips with class numbers; in training each index gives `repeats` augmented clips."""

    def __init__(self, task: "Task", clips: Clips, train: bool) -> None:
        self.task, self.clips, self.train = task, clips, train

    def __len__(self) -> int:
        return len(self.clips)

    def avoid(self, file: str, error: str) -> None:
        """Count a video as unreadable."""
        self.clips.avoid(file, error)

    def sample(self, epoch: int, index: int) -> list[dict[str, Any]]:
        """`clip` uint8 [T,3,H,W] and `label` for each repetition, with the `failures` met."""
        repeats = int(self.task.data["repeats"]) if self.train else 1
        return [self._one(epoch * repeats + again, index) for again in range(repeats)]

    def _one(self, draw: int, index: int) -> dict[str, Any]:
        frames, pair, _, failed = self.clips.read(draw, index)
        task, data = self.task, self.task.data
        if self.train:
            rng = seeds.numpy_generator(task.seed, "augment", draw, index)
            if data["rand_augment"]:
                frames = strong.rand_augment(frames, data["rand_augment"], data["mean"], rng)
            clip = augment(frames, rng, task.size, data["scale"], data["flip"])
        else:
            clip = task.validation_clip(frames)
        return {"clip": clip, "label": task.number[pair.caption], "failures": failed}


class Task(Protocol):
    """Clips against class names."""

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        if recipe["family"] != "viclip_classifier":
            raise VireoError(
                f"viclip_finetune trains family viclip_classifier, not {recipe['family']}"
            )
        self.recipe, self.config = recipe, config
        self.data = _settings(recipe, "data", DATA)
        self.options = _settings(recipe, "model", MODEL)
        self.seed = int(recipe.get("seed", 0))
        self.size = int(recipe["arch"]["image_size"])
        self.best = ("top1", "max") if self.data["validate"] else None
        self.train_items = self._items("train")
        self.labels = actions.classes(self.train_items)
        self.number = {name: number for number, name in enumerate(self.labels)}
        if len(self.labels) != recipe["arch"]["num_classes"]:
            raise VireoError(
                f"the training list has {len(self.labels)} classes, arch.num_classes is "
                f"{recipe['arch']['num_classes']}"
            )

    # data

    def _sources(self, split: str) -> dict[str, Path]:
        sources = self.recipe.get("sources") or {}
        roles = {}
        for role in ("annotations", "videos"):
            name = sources.get(f"val_{role}") if split == "val" else None
            name = name or sources.get(role)
            if name is None:
                raise VireoError(f"a viclip_finetune recipe needs `sources: {{{role}: ARTIFACT}}`")
            roles[role] = Path(receipt.read(_receipt(name))["root"])
        return roles

    def _block(self, split: str) -> dict[str, Any]:
        options = {key: self.data[key] for key in ("format", "labels", "separator", "classes")}
        options["list"] = self.data["val_list" if split == "val" else "list"]
        return {"options": {**options, "split": split}, "partial": True}

    def _items(self, split: str) -> Any:
        return actions.items(self._sources(split), self._block(split))

    def dataset(self, split: str) -> Samples:
        """The clips of a split that are there."""
        sources, block = self._sources(split), self._block(split)
        items = self.train_items if split == "train" else self._items(split)
        found = actions.videos(sources, items, block).set_index("video")
        here = found.index[found["status"] == "found"]
        pairs: list[Pair] = []
        root = sources["videos"]
        for video, label in zip(items["video"], items["answer"], strict=True):
            if video in here and label in self.number:
                path = os.path.relpath(str(found.at[video, "path"]), root.absolute())
                pairs.append(Pair(path, label, len(pairs)))
        log.info("%s: %d of %d clips found", split, len(pairs), len(items))
        clips = Clips(
            [(pairs, root)],
            self.data["frames" if split == "train" else "val_frames"],
            self.seed,
            {**DECODE, **(self.config.get("decode") or {})},
            cache=self.data["cache_decoded"],
        )
        return Samples(self, clips, split == "train")

    def validation_clip(self, frames: Any) -> Tensor:
        """Short side to the size, middle crop: uint8 [T,3,size,size]."""
        from vireo.media import views

        small = views.long_side_crop(views.short_side(frames, self.size), self.size, 1, 0)
        return torch.from_numpy(small.copy()).permute(0, 3, 1, 2).contiguous()

    def collate(self, samples: list[list[dict[str, Any]]]) -> Batch:
        """Stack all repetitions of all samples."""
        flat = [one for repeated in samples for one in repeated]
        return {
            "clip": torch.stack([one["clip"] for one in flat]),
            "label": torch.tensor([one["label"] for one in flat]),
            "failures": [failure for one in flat for failure in one["failures"]],
        }

    def _normalised(self, clip: Tensor) -> Tensor:
        shape = (1, 1, 3, 1, 1)
        mean = torch.tensor(self.data["mean"], device=clip.device).view(shape)
        std = torch.tensor(self.data["std"], device=clip.device).view(shape)
        return clip.float().div_(255).sub_(mean).div_(std)

    # model

    def build(self) -> nn.Module:
        """The tower with given weights and a new head, or one that fits by its class names."""
        generator = seeds.torch_generator(self.seed, "init")
        model = viclip_classifier.build(self.recipe["arch"], generator)
        if weights := self._init_file():
            log.info(viclip_classifier.start_from(model, weights, self.labels))
        return model

    def _init_file(self) -> Path | None:
        init = self.recipe.get("init") or {}
        if "recipe" in init:
            return Path("results/training") / init["recipe"] / "weights.safetensors"
        if "artifact" in init:
            return receipt.only_file(_receipt(init["artifact"]), init.get("file"))
        return None

    def fingerprint(self) -> dict[str, Any]:
        """The training list and the weights the run starts from."""
        pairs = zip(self.train_items["id"], self.train_items["answer"], strict=True)
        outside: dict[str, Any] = {"list": seeds.number(*sorted(f"{i}\t{a}" for i, a in pairs))}
        weights = self._init_file()
        return outside | ({"init": receipt.hash_of(weights)} if weights else {})

    # training

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Cross-entropy with the soft labels of mixup; `acc` against the stronger label."""
        clips = self._normalised(batch["clip"])
        for place, clip in enumerate(clips):
            rng = seeds.numpy_generator(self.seed, "erase", step.step, step.first, place)
            strong.erase(clip, float(self.data["erase"]), rng)
        seed = seeds.number(self.seed, "mix", step.step, step.first) % 2**32
        clips, soft = strong.mix(clips, batch["label"], len(self.labels), seed, self.data)
        logits = model(clips).float()
        value = -(soft * F.log_softmax(logits, dim=-1)).sum(-1).mean()
        return value, {"acc": (logits.argmax(1) == soft.argmax(1)).float().mean()}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """One group per layer and decay: the learning rate falls by `layer_decay` a layer."""
        decay = float(self.recipe["optim"].get("weight_decay", 0.05))
        factor, layers = float(self.options["layer_decay"]), int(self.recipe["arch"]["layers"])
        groups: dict[tuple[int, float], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            layer = layer_of(name, layers)
            plain = parameter.ndim <= 1 or name.rpartition(".")[2] in NO_DECAY
            key = layer, 0.0 if plain else decay
            scale = factor ** (layers + 1 - layer)
            fresh: dict[str, Any] = {"params": [], "names": []}
            group = groups.setdefault(key, fresh | {"weight_decay": key[1], "lr_scale": scale})
            group["params"].append(parameter)
            group["names"].append(name)
        return list(groups.values())

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Top-1 in percent of the middle view of the validation list."""
        if not self.data["validate"]:
            return {}
        if not hasattr(self, "_val"):
            self._val = self.dataset("val")
        device = next(model.parameters()).device
        size = int(self.recipe.get("micro_batch") or self.recipe["batch_size"])
        right = []
        for first in range(0, len(self._val), size):
            places = range(first, min(first + size, len(self._val)))
            batch = self.collate([self._val.sample(0, index) for index in places])
            logits = model(self._normalised(batch["clip"].to(device)))
            right += (logits.argmax(1).cpu() == batch["label"]).tolist()
        return {"top1": 100.0 * sum(right) / max(len(right), 1)}


def layer_of(name: str, layers: int) -> int:
    """Number of the layer a parameter belongs to: embeddings 0, block i is i + 1, the rest last."""
    if ".resblocks." in name:
        return int(name.split(".resblocks.")[1].split(".")[0]) + 1
    first = ("conv1.", "ln_pre.", *NO_DECAY)
    return 0 if name.removeprefix("vision_encoder.").startswith(first) else layers + 1


def _settings(recipe: dict[str, Any], section: str, defaults: dict[str, Any]) -> dict[str, Any]:
    given = recipe.get(section) or {}
    for key in given:
        if key not in defaults:
            raise unknown(f"key of a viclip_finetune recipe's {section}", key, defaults)
    return {**defaults, **given}


def _receipt(artifact: str) -> Path:
    return Path("data/receipts") / f"{artifact}.json"
