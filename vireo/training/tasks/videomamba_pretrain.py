"""VideoMamba's masked pre-training: the visible tokens of a clip learn a frozen CLIP's features.

Recipe: `sources`, `data` lists as for fine-tuning (labels are not used); `init`: the teacher's
weights (CLIP of any origin, or a ViCLIP), the student starts fresh; `arch`: the student's;
`model.teacher`: sizes of the teacher that differ from CLIP-B/16. The teacher sees the student's
normalised clip. Facts: docs/reference/videomamba.md section 2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vireo.errors import VireoError, unknown
from vireo.nn import clip_teacher
from vireo.training import Batch, Metrics, Step, labelled, masking, optim, seeds
from vireo.training import Task as Protocol
from vireo.training import recipe as blocks
from vireo.training import videomamba_student as students
from vireo.training.augment import multi_scale, normalised
from vireo.training.clips import Clips, OfClips
from vireo.training.tasks.videomamba_finetune import NO_DECAY, lr_factor

DATA = {
    **labelled.LISTS,
    "frames": {"rule": "halves_random"},  # n: the model's, if not given
    "scales": [1, 0.875, 0.75, 0.66],
    "flip": 0.5,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "cache_decoded": False,
}
MODEL = {
    "mask": "attention",
    "mask_ratio": 0.8,
    "loss": "l2",
    "loss_ratio": 1.0,
    "teacher": {},
    "lr_per": 256,
}


class Samples(OfClips):
    """Augmented clips."""

    def __init__(self, task: "Task", clips: Clips) -> None:
        super().__init__(clips)
        self.task = task

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """`clip` uint8 [T,3,H,W], with the `failures` met."""
        frames, _, _, failed = self.clips.read(epoch, index)
        rng = seeds.numpy_generator(self.task.seed, "augment", epoch, index)
        data = self.task.data
        clip = multi_scale(frames, rng, self.task.size, data["scales"], data["flip"])
        return {"clip": clip, "failures": failed}


class Pair(nn.Module):
    """The trained student beside its frozen teacher."""

    def __init__(self, student: students.Student, teacher: clip_teacher.Teacher) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def train(self, mode: bool = True) -> "Pair":
        """The teacher always stays as it is in use."""
        super().train(mode)
        self.teacher.eval()
        return self


class Task(Protocol):
    """A student and a teacher that see the same clips."""

    find_unused = True  # the last mixer gets no gradient

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        blocks.demand_family(recipe, "videomamba")
        self.recipe, self.config = recipe, config
        self.data = blocks.settings(recipe, "data", DATA)
        self.options = blocks.settings(recipe, "model", MODEL)
        kinds = ["attention", *masking.KINDS]
        for key, known in (("mask", kinds), ("loss", students.LOSSES)):
            if self.options[key] not in known:
                raise unknown(key, self.options[key], known)
        self.data["frames"] = {"n": recipe["arch"].get("num_frames", 8), **self.data["frames"]}
        self.seed = int(recipe.get("seed", 0))
        self.size = int(recipe["arch"].get("image_size", 224))
        self.lr_factor = lr_factor(recipe, self.options["lr_per"], 1)
        self.train_items = labelled.items(recipe, self.data, "train")

    def fingerprint(self) -> dict[str, Any]:
        """The list of clips and the teacher's weights."""
        outside: dict[str, Any] = {"list": seeds.number(*sorted(self.train_items["id"]))}
        return outside | blocks.init_hash(self.recipe)

    def dataset(self, split: str) -> Samples:
        """The clips that are there."""
        found = labelled.clips(self.recipe, self.config, self.data, split, self.train_items)
        return Samples(self, found)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Stack clips; join the failures."""
        return {
            "clip": torch.stack([one["clip"] for one in samples]),
            "failures": [failure for one in samples for failure in one["failures"]],
        }

    def build(self) -> nn.Module:
        """Fresh student, given teacher."""
        weights = blocks.init_file(self.recipe)
        if weights is None:
            raise VireoError("videomamba_pretrain needs `init`: the teacher's weights")
        arch, told = self.recipe["arch"], dict(self.options["teacher"])
        # Both align as many layers.
        told.setdefault("return_layers", arch.get("return_layers", 1))
        teacher = clip_teacher.load(weights, told)
        generator = seeds.torch_generator(self.seed, "init")
        student = students.build({**arch, "output_dim": teacher.arch["output_dim"]}, generator)
        sizes = teacher.arch["image_size"] // teacher.arch["patch_size"]
        if sizes != student.arch["image_size"] // student.arch["patch_size"]:
            raise VireoError(
                f"the teacher sees {sizes} x {sizes} patches, the student another number: set "
                "model.teacher.image_size"
            )
        return Pair(student, teacher)

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Distance of student and teacher at the visible tokens."""
        assert isinstance(model, Pair)
        clips = normalised(batch["clip"], self.data)
        targets, looks = model.teacher(clips)
        mask = masking.draw(
            self.options["mask"],
            looks,
            float(self.options["mask_ratio"]),
            step.generator("mask"),
            step.first,
        )
        made = model.student(clips, mask).float()
        targets = targets[:, ~mask].unflatten(1, (len(mask), -1))
        value = students.loss(made, targets, self.options["loss"])
        cosine = (made.detach() * targets).sum(-1).mean()
        return value * float(self.options["loss_ratio"]), {"cosine": cosine}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Decay for matrices only, and for A_log, which is one."""
        decay = float(self.recipe["optim"].get("weight_decay", 0.05))
        return optim.decay_groups(model, decay, NO_DECAY)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The student, under the names of the released files."""
        assert isinstance(model, Pair)
        return dict(model.student.state_dict())
