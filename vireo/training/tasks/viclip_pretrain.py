"""ViCLIP's masked video-text contrastive pre-training (InternVideo1/Pretrain/ViCLIP).

Recipe: `sources` roles beginning with `train` (one or more corpora) and optionally `val`;
`data`: list, videos, frames, scale, flip, mean, std, min_words, cache_decoded, ids;
`model`: mask_ratio, freeze_text, temp, position_std, gather;
`optim`: lr, betas, eps, weight_decay, clip; `schedule`: warmup_epochs or warmup_steps, floor.
Facts and defaults: docs/reference/viclip.md §7.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.models import viclip
from vireo.nn.tokenizer import Tokenizer
from vireo.training import Batch, Metrics, Step, contrastive, lists, optim, schedule, seeds
from vireo.training import Task as Protocol
from vireo.training import recipe as blocks
from vireo.training.augment import augment, normalised
from vireo.training.clips import Clips, OfClips
from vireo.training.loader import single_pass

NO_DECAY = (
    "temp",
    "vision_encoder.class_embedding",
    "vision_encoder.positional_embedding",
    "vision_encoder.temporal_positional_embedding",
    "text_encoder.positional_embedding",
    # parity: the exclusion of the token table is misspelt in the reference, so it decays | only
    # where the text tower is trained | none
)
TEMP_FLOOR = 0.01
DATA = {
    "list": "train.json",
    "val_list": "val.json",
    "videos": ".",
    "frames": {"rule": "rand", "n": 8},
    "scale": [0.5, 1.0],
    "flip": 0.5,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "min_words": 2,
    "cache_decoded": False,
    "ids": "own",
}
MODEL = {
    "mask_ratio": 0.9,
    "freeze_text": True,
    "temp": None,
    "position_std": None,  # of random position tables; None = the family's own initialisation
    "gather": "reference",
}


class Samples(OfClips):
    """Augmented clips with token ids; `train=False` takes middle frames as they are."""

    def __init__(self, task: "Task", clips: Clips, train: bool) -> None:
        super().__init__(clips)
        self.task, self.train = task, train

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """uint8 `clip` [T,3,H,W], `tokens` [L], `id`, and the `failures` met."""
        frames, pair, number, failed = self.clips.read(epoch, index)
        data = self.task.data
        scale, flip = (data["scale"], data["flip"]) if self.train else ((1, 1), 0.0)
        rng = seeds.numpy_generator(self.task.seed, "augment", epoch, index)
        clip = augment(frames, rng, self.task.size, scale, flip)
        return {
            "clip": clip,
            "tokens": self.task.tokens(pair.said(rng)),
            "id": number,
            "failures": failed,
        }


class Task(Protocol):
    """Masked clips against captions."""

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        blocks.demand_family(recipe, "viclip")
        self.recipe, self.config = recipe, config
        self.data = blocks.settings(recipe, "data", DATA)
        self.options = blocks.settings(recipe, "model", MODEL)
        self.seed = int(recipe.get("seed", 0))
        self.size = int(recipe["arch"]["image_size"])
        tokenizer = Tokenizer(recipe["arch"].get("context_length", 32))
        self.tokens = lru_cache(maxsize=200_000)(lambda text: tokenizer([text])[0])
        sources = recipe.get("sources") or {}
        self.roles = sorted(role for role in sources if role.startswith("train"))
        if not self.roles:
            raise VireoError("a viclip_pretrain recipe needs `sources: {train: ARTIFACT}`")
        self.validates = "val" in sources
        self.best = ("r1", "max") if self.validates else None

    # model

    def build(self) -> nn.Module:
        """ViCLIP with seeded or given weights; the text tower frozen if asked."""
        generator = seeds.torch_generator(self.seed, "init")
        model = viclip.build(self.recipe["arch"], generator)
        if weights := blocks.init_file(self.recipe):
            viclip.start_from(model, weights)
        if self.options["temp"] is not None:
            nn.init.constant_(model.temp, float(self.options["temp"]))
        if self.options["position_std"] is not None:
            tower, std = model.vision_encoder, float(self.options["position_std"])
            nn.init.normal_(tower.positional_embedding, std=std, generator=generator)
            nn.init.normal_(tower.temporal_positional_embedding, std=std, generator=generator)
        model.text_encoder.requires_grad_(not self.options["freeze_text"])
        return model

    def fingerprint(self) -> dict[str, Any]:
        """Hashes of the lists and of the weights the run starts from."""
        roles = [*self.roles, "val"] if self.validates else self.roles
        outside = {role: receipt.hash_of(self._list(role)) for role in roles}
        return outside | blocks.init_hash(self.recipe)

    # data

    def _list(self, role: str) -> Path:
        path = blocks.source(self.recipe, role) / self.data["val_list" if role == "val" else "list"]
        if not path.is_file():
            raise VireoError(f"no list {path}; name it in the recipe (data: {{list: ...}})")
        return path

    def dataset(self, split: str) -> Samples:
        """All corpora of the training roles, or the validation list."""
        train = split == "train"
        share = schedule.data_share(self.recipe) if train else 1.0
        corpora = []
        for role in self.roles if train else ["val"]:
            pairs = lists.read(self._list(role), share, self.data["min_words"])
            corpora.append((pairs, blocks.source(self.recipe, role) / self.data["videos"]))
        frames = self.data["frames"]
        clips = Clips(
            corpora,
            frames
            if train
            else {"rule": "middle", "n": frames.get("n", 8), "reader": frames.get("reader")},
            self.seed,
            blocks.decoding(self.config),
            cache=self.data["cache_decoded"],
            joint_ids=self.data["ids"] == "joint",
        )
        return Samples(self, clips, train)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Stack clips, tokens and ids; join the failures."""
        return {
            "clip": torch.stack([s["clip"] for s in samples]),
            "tokens": torch.stack([s["tokens"] for s in samples]),
            "id": torch.tensor([s["id"] for s in samples]),
            "failures": [failure for s in samples for failure in s["failures"]],
        }

    # training

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Contrastive loss of a micro-batch over all processes; `acc` is video to text top-1."""
        assert isinstance(model, viclip.ViCLIP)
        with torch.no_grad():
            model.temp.clamp_(min=TEMP_FLOOR)
        clips = normalised(batch["clip"], self.data)
        ratio = float(self.options["mask_ratio"])
        generator = None
        if ratio > 0:
            generator = step.generator("mask")
            # Rows of the step's whole batch that other processes and micro-batches draw.
            grid = self.size // self.recipe["arch"]["patch_size"]
            torch.rand(step.first, clips.shape[1] * grid**2, generator=generator)
        video = model.encode_vision(clips, ratio, generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.options["freeze_text"]):
            text = model.encode_text(batch["tokens"])
        value, sims = contrastive.loss(
            video.float(), text.float(), model.temp, batch["id"], self.options["gather"]
        )
        best = sims.argmax(1) == torch.arange(len(sims), device=sims.device)
        return value, {"acc": best.float().mean(), "temp": model.temp.detach().clone()}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Decay for matrices only."""
        decay = float(self.recipe["optim"].get("weight_decay", 0.2))
        return optim.decay_groups(model, decay, NO_DECAY)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Recall at 1 (%), mean of both directions, over the validation list; unmasked."""
        if not self.validates:
            return {}
        assert isinstance(model, viclip.ViCLIP)
        if not hasattr(self, "val"):
            self.val = self.dataset("val")
        device, size = model.temp.device, int(self.recipe["batch_size"])
        videos, texts, failed = [], [], []
        for batch in single_pass(self, self.val, self.recipe, self.config, size):
            failed += batch["failures"]
            clips = normalised(batch["clip"].to(device), self.data)
            videos.append(F.normalize(model.encode_vision(clips), dim=-1))
            texts.append(F.normalize(model.encode_text(batch["tokens"].to(device)), dim=-1))
        sims = torch.cat(videos) @ torch.cat(texts).T
        right = torch.arange(len(sims), device=device)
        both = [(s.argmax(1) == right).float().mean().item() for s in (sims, sims.T)]
        return {"r1": 50 * sum(both), "failures": failed}
