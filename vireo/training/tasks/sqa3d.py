"""ClipBERT on SQA3D (the authors' recipe `sqa_video_base_resnet50`), and its blind ablation.

Recipe: `sources` {questions, videos}; `files` {vocab, answers}, for the fallback start also {grid,
bert}; `init` the image-text checkpoint; `data`: clips, frames, target, size, tokens, mean, std,
cache_decoded, val_clips, questions (per scene and sample; 1 in the paper); `model`: freeze,
aggregate, two_pass, calibrate; `optim`: lr, cnn_lr, weight_decay, clip. Facts and defaults:
docs/reference/clipbert.md section 4.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vireo import benchmarks
from vireo.benchmarks.annotations.sqa3d_items import UNKNOWN
from vireo.fetch import receipt
from vireo.media.decode import DecodeRequest
from vireo.media.reader import PYAV
from vireo.models import clipbert
from vireo.nn import answers
from vireo.training import Batch, Metrics, Step, seeds
from vireo.training import Task as Protocol
from vireo.training import recipe as blocks
from vireo.training.sqa3d_samples import Samples, Validation
from vireo.utils.cli import log
from vireo.utils.files import digest

if TYPE_CHECKING:
    from accelerate import Accelerator


DATA = {
    "clips": 8,
    "frames": 2,
    "target": 2.0,
    "size": 448,
    "tokens": 100,
    "mean": [0.485, 0.456, 0.406],
    "std": [1 / 255] * 3,
    "cache_decoded": False,
    "val_clips": 1,
    "questions": 1,
    "reader": PYAV,
}
MODEL = {"freeze": ["stem", "res2"], "aggregate": "lse", "two_pass": False, "calibrate": 0}
NO_DECAY = ("bias", "LayerNorm.bias", "LayerNorm.weight")


class Task(Protocol):
    """Random clips and a question against the answer dictionary."""

    find_unused = True  # a table of positions that no part of the model reads
    best = ("em1", "max")

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        blocks.demand_family(recipe, "clipbert")
        self.recipe, self.config = recipe, config
        self.data = blocks.settings(recipe, "data", DATA)
        self.options = blocks.settings(recipe, "model", MODEL)
        self.seed = int(recipe.get("seed", 0))
        self.more = int(self.data["questions"]) - 1
        self.limits = blocks.decoding(config)
        self.tokenizer = clipbert.Tokenizer(clipbert.aux_file(recipe, "vocab"))
        names = answers.read(clipbert.aux_file(recipe, "answers"))
        self.labels = {answer: number for number, answer in enumerate(names)}
        self.transform = clipbert.Transform(self.data["mean"], self.data["std"], self.data["size"])

    # model

    def build(self) -> nn.Module:
        """ClipBERT from the image-text checkpoint, from grid features and BERT, or from nothing."""
        model = clipbert.build(self.recipe["arch"], seeds.torch_generator(self.seed, "init"))
        if weights := blocks.init_file(self.recipe):
            clipbert.start_from(model, weights)
        elif "grid" in (self.recipe.get("files") or {}):
            parts = clipbert.aux_file(self.recipe, "grid"), clipbert.aux_file(self.recipe, "bert")
            clipbert.start_from_parts(model, *parts)
        if count := int(self.options["calibrate"]):
            self._calibrate(model, count)
        model.freeze(self.options["freeze"])
        return model

    def _calibrate(self, model: clipbert.ClipBERT, count: int) -> None:
        """Statistics of the frozen norms from frames of `count` training questions."""
        samples = self.dataset("train")
        chosen = np.linspace(0, len(samples) - 1, count).astype(int)
        frames = np.concatenate([samples.sample(0, int(i))["frames"][:2] for i in chosen])
        model.cnn.feature.backbone.calibrate(self.transform(frames).flip(1))

    def fingerprint(self) -> dict[str, Any]:
        """Digests of the questions, the vocabulary and the weights the run starts from."""
        table, _ = self.tables("train")
        told = {"questions": digest([[i.question, i.answer, i.video] for i in table])}
        for role in self.recipe.get("files") or {}:
            told[role] = receipt.hash_of(clipbert.aux_file(self.recipe, role))
        return told | blocks.init_hash(self.recipe)

    # data

    def tables(self, split: str) -> tuple[list[Any], dict[str, DecodeRequest]]:
        """Questions of a split that can be learnt or scored, and where the scenes' videos are."""
        module = benchmarks.module("sqa3d")
        roots = {
            role: blocks.list_of(artifact) if role == "questions" else blocks.root_of(artifact)
            for role, artifact in self.recipe["sources"].items()
        }
        items = module.items(roots, {"splits": [split]})
        known = items["answer"].isin(self.labels)
        if split == "train" and not known.all():
            # parity: the reference stops at an answer outside the dictionary; we leave it out |
            # none on the released annotations, whose answers are all in the dictionary | none
            count = int((~known).sum())
            log.warning("%d training questions (%s …) left out", count, UNKNOWN)
            items = items[known]
        found = module.videos(roots, items, {})
        rule = {"rule": "every", "reader": self.data["reader"]}
        videos = {
            str(row.video): DecodeRequest(
                str(row.video), row.path if row.status == "found" else None, str(row.kind), rule
            )
            for row in found.itertuples()
        }
        return list(items.itertuples()), videos

    def dataset(self, split: str) -> Samples:
        """The training questions; `validate` has its own."""
        return Samples(self)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Frames [B,n*T,H,W,3] uint8; ids, mask [B*k,L] and labels [B*k] of k questions each."""
        texts = [text for s in samples for text in s["texts"]]
        ids, mask = self.tokenizer(texts, self.data["tokens"])
        longest = int(mask.sum(1).max())
        return {
            "frames": torch.from_numpy(np.stack([s["frames"] for s in samples])),
            "ids": ids[:, :longest].contiguous(),
            "mask": mask[:, :longest].contiguous(),
            "label": torch.tensor([label for s in samples for label in s["labels"]]),
            "failures": [failure for s in samples for failure in s["failures"]],
        }

    def input_clips(self, frames: Tensor) -> Tensor:
        """uint8 [B,n*T,H,W,3] -> [B,n,T,3,S,S]."""
        x = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
        x = self.transform.normalise(self.transform.fit(x))
        return x.unflatten(0, (len(frames), -1, self.data["frames"]))

    # training

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Mean loss of a micro-batch over all clips, and the share of right answers."""
        assert isinstance(model, clipbert.ClipBERT)
        logits = self.logits(model, batch, self.input_clips(batch["frames"]))
        return self.loss_of_logits(logits, batch["label"])

    def loss_of_logits(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Metrics]:
        """[Q,n,V] and [Q] -> mean loss of the questions over all clips, share of right answers."""
        how = self.options["aggregate"]
        right = clipbert.aggregate(logits.detach(), how).argmax(1) == label
        return clipbert.loss(logits, label, how).mean(), {"acc": right.float().mean()}

    def backward(
        self, model: nn.Module, batch: Batch, step: Step, accelerator: "Accelerator"
    ) -> tuple[Tensor, Metrics] | None:
        """With `two_pass`: memory of one clip instead of all, the same gradients.

        The loss couples all clips, so the first pass finds its gradient at the logits, the second
        carries it back clip by clip, with the random numbers of the first (dropout).
        """
        if not self.options["two_pass"]:
            return None
        assert isinstance(model, clipbert.ClipBERT)
        clips = self.input_clips(batch["frames"])
        states, logits = [], []
        with torch.no_grad(), accelerator.autocast():
            for n in range(clips.shape[1]):
                states.append(_random_state(clips.device))
                logits.append(self.logits(model, batch, clips[:, n : n + 1]))
        with torch.enable_grad():
            joined = torch.cat(logits, 1).float().requires_grad_()
            value, metrics = self.loss_of_logits(joined, batch["label"])
            value.backward()
        assert joined.grad is not None
        share = joined.grad / accelerator.gradient_accumulation_steps
        after = _random_state(clips.device)
        for n, state in enumerate(states):
            _set_random_state(state, clips.device)
            with accelerator.autocast():
                again = self.logits(model, batch, clips[:, n : n + 1])
            again.float().backward(share[:, n : n + 1])
        _set_random_state(after, clips.device)
        return value.detach(), metrics

    def logits(self, model: clipbert.ClipBERT, batch: Batch, clips: Tensor) -> Tensor:
        """[B,n,T,3,S,S] of a batch -> [Q,n,V], the questions of a scene one after the other."""
        grids = model.encode(clips)
        each = len(batch["ids"]) // len(grids)
        return model(batch["ids"], batch["mask"], grids.repeat_interleave(each, 0))

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Transformer and CNN, each with and without weight decay; the CNN's own learning rate."""
        options = self.recipe["optim"]
        groups = []
        for part in ("transformer", "cnn"):
            scale = options.get("cnn_lr", options["lr"]) / options["lr"] if part == "cnn" else 1.0
            named = [
                (name, p)
                for name, p in model.named_parameters()
                if p.requires_grad and name.startswith(part)
            ]
            for exempt, decay in ((False, float(options.get("weight_decay", 1e-3))), (True, 0.0)):
                # parity: by substring, as the reference does | which parameters have no weight
                # decay | none
                chosen = [(n, p) for n, p in named if any(word in n for word in NO_DECAY) == exempt]
                group = {"weight_decay": decay, "lr_scale": scale, "names": [n for n, _ in chosen]}
                groups.append({"params": [p for _, p in chosen], **group})
        return [group for group in groups if group["params"]]

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """EM@1 in percent over the validation questions whose video is readable."""
        assert isinstance(model, clipbert.ClipBERT)
        if not hasattr(self, "val"):
            self.val = Validation(self)
        device = model.transformer.bert.pooler.dense.weight.device
        hits, size = [], int(self.recipe["batch_size"])
        for asked, frames in self.val:
            grids = model.encode(self.input_clips(torch.from_numpy(frames)[None].to(device)))
            for first in range(0, len(asked), size):
                items = asked[first : first + size]
                texts = [item.question for item in items]
                ids, mask = (t.to(device) for t in self.tokenizer(texts, self.data["tokens"]))
                logits = model(ids, mask, grids.expand(len(items), *grids.shape[1:]))
                best = clipbert.aggregate(logits, self.options["aggregate"]).argmax(1).tolist()
                hits += [
                    self.labels.get(item.answer, -1) == label
                    for item, label in zip(items, best, strict=True)
                ]
        told: dict[str, Any] = {"failures": self.val.failures}
        return told | ({"em1": 100 * sum(hits) / len(hits)} if hits else {})


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
