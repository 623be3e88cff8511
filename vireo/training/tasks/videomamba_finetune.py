"""Fine-tuning VideoMamba: classes of short and long videos, or one number (LVU's view and like).

Recipe: `sources`, `data` as for ViCLIP's fine-tuning and `regression` (targets instead of classes;
no mixup); `optim.lr` is per `model.lr_per` clips of a step; `init`: an image model, a fine-tuned or
a pre-trained one, loaded by the rule `model.start` (vireo/models/videomamba.py, `STARTS`).
Facts: docs/reference/videomamba.md sections 3.3 and 4.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError, unknown
from vireo.models import videomamba
from vireo.nn.head_rows import rows_of
from vireo.training import Batch, Metrics, Step, optim, rand_augment, seeds
from vireo.training import recipe as blocks
from vireo.training.augment import normalised
from vireo.training.tasks import viclip_finetune

DATA = {**viclip_finetune.DATA, "resize": "bilinear", "regression": False}
MODEL = {
    "layer_decay": 0.75,
    "decay_rule": "faithful",
    "start": "same",
    "centre": True,
    "lr_per": 256,
}
NO_DECAY = ("cls_token", "pos_embed", "temporal_pos_embedding")
EMBEDDINGS = ("cls_token", "pos_embed", "patch_embed")
RULES = ("faithful", "corrected")


class Task(viclip_finetune.Task):
    """Clips against class names or numbers."""

    family = "videomamba"
    data_defaults: ClassVar[dict[str, Any]] = DATA
    model_defaults: ClassVar[dict[str, Any]] = MODEL

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        data = recipe.get("data") or {}
        if data.get("regression"):
            self.measure = ("mse", "min")
        super().__init__(recipe, config)
        self.lr_factor = lr_factor(recipe, self.options["lr_per"], self.data["repeats"])
        if self.options["decay_rule"] not in RULES:
            raise unknown("layer decay", self.options["decay_rule"], RULES)

    def _classes(self) -> list[str] | None:
        if not self.data["regression"]:
            return super()._classes()
        self.number = {}
        if self.recipe["arch"]["num_classes"] != 1:
            raise VireoError("regression has one output: set arch.num_classes: 1")
        for answer in self.train_items["answer"]:
            self.target(answer)
        return None

    def target(self, answer: str) -> int | float:
        """Number of a class, or the value itself; VireoError when it is no number."""
        if not self.data["regression"]:
            return super().target(answer)
        try:
            return float(answer)
        except ValueError as error:
            raise VireoError(f"regression: {answer!r} is not a number") from error

    # model

    def build(self) -> nn.Module:
        """The authors' initialisation, or given weights with what the start leaves out fresh."""
        generator = seeds.torch_generator(self.seed, "init")
        model = videomamba.build(self.recipe["arch"], generator)
        weights = blocks.init_file(self.recipe)
        if weights is None:
            return model
        start, rows = self.options["start"], None
        if start == "same" and self.labels is not None:
            rows = self._rows(videomamba.labels(self.recipe, weights))
        videomamba.start_from(model, weights, start, centre=self.options["centre"], head_rows=rows)
        return model

    def _rows(self, names: list[str] | None) -> list[int] | None:
        """Row of the file's head for each class; None when the file's rows have no names."""
        assert self.labels is not None
        return None if names is None else rows_of(self.labels, names)

    # training

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Cross-entropy of mixed clips and labels; for regression the mean squared error."""
        if not self.data["regression"]:
            return super().loss(model, batch, step)
        clips = normalised(batch["clip"], self.data)
        for place, clip in enumerate(clips):
            rng = seeds.numpy_generator(self.seed, "erase", step.step, step.first, place)
            rand_augment.erase(clip, float(self.data["erase"]), rng)
        value = F.mse_loss(model(clips).float().squeeze(1), batch["label"].float())
        return value, {}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """One group per decay and rate; `decay_rule: corrected` lets rates fall block by block."""
        decay = float(self.recipe["optim"].get("weight_decay", 0.05))
        factor, depth = float(self.options["layer_decay"]), int(self.recipe["arch"]["depth"])
        scale = faithful if self.options["decay_rule"] == "faithful" else corrected
        split: dict[tuple[float, float], dict[str, Any]] = {}
        # parity: A_log is two-dimensional and so decays; the authors' marks against it are not read
        # | A_log shrinks with weight decay | none
        for group in optim.decay_groups(model, decay, NO_DECAY):
            for name, parameter in zip(group["names"], group["params"], strict=True):
                key = group["weight_decay"], scale(name, depth, factor)
                fresh: dict[str, Any] = {"params": [], "names": []}
                one = split.setdefault(key, fresh | {"weight_decay": key[0], "lr_scale": key[1]})
                one["params"].append(parameter)
                one["names"].append(name)
        return list(split.values())

    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Top-1 in percent of the middle view of the validation list, or the squared error."""
        if not (self.data["regression"] and self.data["validate"]):
            return super().validate(model)
        said, wanted, failed = self.predictions(model)
        return {"mse": F.mse_loss(said.squeeze(1), wanted.float()).item(), "failures": failed}


def lr_factor(recipe: dict[str, Any], per: float | None, repeats: int) -> float:
    """Learning rates are for `per` clips a step (None: as they stand): the reference's scaling."""
    return 1.0 if per is None else int(recipe["batch_size"]) * repeats / float(per)


def faithful(name: str, depth: int, factor: float) -> float:
    """Multiple of the learning rate as in the reference."""
    # parity: its rule for blocks is commented out, so all blocks keep the whole rate and the
    # embeddings get that of a layer below the first: with 0.75 and 24 blocks they stand still |
    # layer decay acts on the embeddings only | `model.decay_rule: corrected`
    return factor ** (depth + 1) if name.startswith(EMBEDDINGS) else 1.0


def corrected(name: str, depth: int, factor: float) -> float:
    """Multiple of the learning rate: falls block by block, embeddings lowest."""
    if name.startswith((*EMBEDDINGS, "temporal_pos_embedding")):
        return factor ** (depth + 1)
    if name.startswith("layers."):
        return factor ** (depth - int(name.split(".")[1]))
    return 1.0
