"""Fine-tuning ViCLIP for action recognition; the recipe is UMT's, the same group's public one.

Recipe: `sources`: annotations, videos, optionally val_annotations and val_videos; `data`: as in
`DATA` (lists: vireo/benchmarks/actions.py); `model`: layer_decay; `init`: a ViCLIP, CLIP or
fine-tuned file. Classes are the sorted names of the training list and go into the weights file.
Facts: docs/reference/viclip.md section 6.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.benchmarks import actions
from vireo.errors import VireoError, unknown
from vireo.models import viclip_classifier
from vireo.training import Batch, Metrics, Step, labelled, rand_augment, seeds
from vireo.training import Task as Protocol
from vireo.training import recipe as blocks
from vireo.training.augment import augment, normalised
from vireo.training.clips import Clips, OfClips
from vireo.training.loader import single_pass
from vireo.utils.cli import log

DATA = {
    **labelled.LISTS,
    "frames": {"rule": "sparse_random"},  # n: the model's, if not given
    "val_frames": {"rule": "sparse_views", "segments": 1},
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
    "resize": "bicubic",
    "cache_decoded": False,
    "validate": True,
    "keep": "best",
}
MODEL = {"layer_decay": 1.0}
NO_DECAY = ("class_embedding", "positional_embedding", "temporal_positional_embedding")


class Samples(OfClips):
    """Clips with class numbers; in training each index gives `repeats` augmented clips."""

    def __init__(self, task: "Task", clips: Clips, train: bool) -> None:
        super().__init__(clips)
        self.task, self.train = task, train

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
                frames = rand_augment.rand_augment(frames, data["rand_augment"], data["mean"], rng)
            clip = augment(frames, rng, task.size, data["scale"], data["flip"], data["resize"])
        else:
            clip = task.validation_clip(frames)
        return {"clip": clip, "label": task.target(pair.caption), "failures": failed}


class Task(Protocol):
    """Clips against class names."""

    family = "viclip_classifier"
    data_defaults: ClassVar[dict[str, Any]] = DATA
    model_defaults: ClassVar[dict[str, Any]] = MODEL

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        blocks.demand_family(recipe, self.family)
        self.recipe, self.config = recipe, config
        self.data = blocks.settings(recipe, "data", self.data_defaults)
        self.options = blocks.settings(recipe, "model", self.model_defaults)
        self.seed = int(recipe.get("seed", 0))
        self.size = int(recipe["arch"].get("image_size", 224))
        for key in ("frames", "val_frames"):
            self.data[key] = {"n": recipe["arch"].get("num_frames", 8), **self.data[key]}
        if self.data["keep"] not in ("best", "last"):
            raise unknown("weights to keep", self.data["keep"], ("best", "last"))
        if self.data["validate"] and self.data["keep"] == "best":
            self.best = self.measure
        self.train_items = labelled.items(recipe, self.data, "train")
        self.labels: list[str] | None = self._classes()

    measure = ("top1", "max")  # which validation number is better how

    def _classes(self) -> list[str] | None:
        """Class names in the order of the head's rows."""
        names = actions.classes(self.train_items)
        self.number = {name: number for number, name in enumerate(names)}
        if len(names) != self.recipe["arch"]["num_classes"]:
            raise VireoError(
                f"the training list has {len(names)} classes, arch.num_classes is "
                f"{self.recipe['arch']['num_classes']}"
            )
        return names

    def target(self, answer: str) -> int | float:
        """What the model is to say for the answer of a list."""
        return self.number[answer]

    # data

    def dataset(self, split: str) -> Samples:
        """The clips of a split that are there."""
        train = split == "train"
        table = self.train_items if train else labelled.items(self.recipe, self.data, split)
        known = set(self.number) if self.labels is not None else None
        clips = labelled.clips(self.recipe, self.config, self.data, split, table, known)
        return Samples(self, clips, train)

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

    # model

    def build(self) -> nn.Module:
        """The tower with given weights and a new head, or one that fits by its class names."""
        generator = seeds.torch_generator(self.seed, "init")
        model = viclip_classifier.build(self.recipe["arch"], generator)
        if weights := blocks.init_file(self.recipe):
            log.info(viclip_classifier.start_from(model, weights, self.labels))
        return model

    def fingerprint(self) -> dict[str, Any]:
        """The training list and the weights the run starts from."""
        pairs = zip(self.train_items["id"], self.train_items["answer"], strict=True)
        outside: dict[str, Any] = {"list": seeds.number(*sorted(f"{i}\t{a}" for i, a in pairs))}
        return outside | blocks.init_hash(self.recipe)

    # training

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Cross-entropy with the soft labels of mixup; `acc` against the stronger label."""
        clips = normalised(batch["clip"], self.data)
        for place, clip in enumerate(clips):
            rng = seeds.numpy_generator(self.seed, "erase", step.step, step.first, place)
            rand_augment.erase(clip, float(self.data["erase"]), rng)
        seed = seeds.number(self.seed, "mix", step.step, step.first) % 2**32
        clips, soft = rand_augment.mix(clips, batch["label"], len(self.number), seed, self.data)
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

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Top-1 in percent of the middle view of the validation list."""
        if not self.data["validate"]:
            return {}
        said, wanted, failed = self.predictions(model)
        right = (said.argmax(1) == wanted).float().mean().item()
        return {"top1": 100.0 * right, "failures": failed}

    def predictions(self, model: nn.Module) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
        """Outputs [N,K] and targets [N] of the validation list, on the CPU, and its `failures`."""
        if not hasattr(self, "_val"):
            self._val = self.dataset("val")
        if not len(self._val):
            raise VireoError("no video of the validation list is there (data: {validate: false})")
        device = next(model.parameters()).device
        size = int(self.recipe.get("micro_batch") or self.recipe["batch_size"])
        said, wanted, failed = [], [], []
        for batch in single_pass(self, self._val, self.recipe, self.config, size):
            said.append(model(normalised(batch["clip"].to(device), self.data)).float().cpu())
            wanted.append(batch["label"])
            failed += batch["failures"]
        return torch.cat(said), torch.cat(wanted), failed


def layer_of(name: str, layers: int) -> int:
    """Number of the layer a parameter belongs to: embeddings 0, block i is i + 1, the rest last."""
    if ".resblocks." in name:
        return int(name.split(".resblocks.")[1].split(".")[0]) + 1
    first = ("conv1.", "ln_pre.", *NO_DECAY)
    return 0 if name.removeprefix("vision_encoder.").startswith(first) else layers + 1
