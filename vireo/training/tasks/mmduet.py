"""MMDuet on MMDuetIT: answers at the right moment, and both heads, through low-rank adapters.

Recipe: `sources` (roles of annotations and videos); `data`: corpora (list of {kind, file, fps,
max_frames, annotations and videos: roles, folder: of the videos}), metadata, cache; `model`: lora
{r, alpha, dropout}, or null: train all weights but the tower's (`tower: true`: these too), wiring,
gradient_checkpointing, system; `files: {base}`: the base's config.json, without it a random model.
Facts: docs/reference/mmduet.md section 4. The released code leaves both heads untrained:
`wiring: reference` reproduces that.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.reader import OPENCV
from vireo.models import mmduet
from vireo.models.mmduet.chat import SYSTEM_PROMPT, ChatTokenizer
from vireo.nn import checkpoint, lora
from vireo.training import Batch, Metrics, Step, mmduet_data, optim, seeds
from vireo.training import Task as Protocol
from vireo.training import recipe as blocks
from vireo.training.loader import working_on
from vireo.training.mmduet_durations import scan
from vireo.training.resample import ResamplingDataset
from vireo.utils import files
from vireo.utils.device import dtype as dtype_of

DATA = {"corpora": [], "metadata": "videos_metadata.json", "cache": False, "reader": OPENCV}
CORPUS = {
    "kind": None, "file": None, "fps": 2.0, "max_frames": 128,
    "annotations": "train", "videos": "videos", "folder": ".",
}  # fmt: skip
MODEL = {
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05},
    "wiring": "fixed",
    "gradient_checkpointing": False,
    "tower": False,
    "system": SYSTEM_PROMPT,
}
# The language model only: the tower has layers of the same names.
LAYERS = (
    r"model\.language_model\.layers\..*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
)
WHOLE = ["multi_modal_projector", "informative_head", "relevance_head"]


class Samples(ResamplingDataset):
    """Conversations of all corpora, one after the other, with their frames."""

    def __init__(self, task: "Task") -> None:
        super().__init__(task.seed)
        self.task = task
        self.entries: list[tuple[mmduet_data.Sample, Path, int]] = []
        self.cached: dict[tuple[str, float], np.ndarray] = {}
        for corpus in task.corpora:
            root = files.inside(blocks.source(task.recipe, corpus["videos"]), corpus["folder"])
            annotations = files.read_json(task.file(corpus), "annotations")
            metadata = task.metadata(corpus, annotations)
            made = mmduet_data.samples(corpus["kind"], annotations, metadata, corpus["fps"])
            for sample in made:
                path = files.inside(root, metadata[sample.video].get("path") or sample.video)
                self.entries.append((sample, path, int(corpus["max_frames"])))
        if not self.entries:
            raise VireoError("the recipe's corpora hold no conversation whose video is there")

    def __len__(self) -> int:
        return len(self.entries)

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """Encoded conversation, uint8 `frames` [T,3,S,S], and the `failures` met on the way."""
        made, failed = self.read_or_replace(lambda now: self._one(epoch, now), epoch, index)
        return {**made, "failures": failed}

    def _one(self, epoch: int, index: int) -> tuple[dict[str, Any] | None, str, str]:
        sample, path, most = self.entries[index]
        rng = seeds.numpy_generator(self.seed, "turns", epoch, index)
        sample = mmduet_data.clipped(mmduet_data.drawn(sample, rng), most)
        frames, error = self._frames(sample, path)
        if frames is None:
            return None, sample.video, error
        if len(frames) < sample.end:
            short = f"{len(frames)} frames where {sample.end} are needed"
            return None, sample.video, error or short
        task = self.task
        encoded = mmduet_data.encode(sample, task.text, task.options["system"], task.tokens)
        shown = torch.from_numpy(frames[sample.start : sample.end].transpose(0, 3, 1, 2))
        return {"encoded": encoded, "frames": shown.contiguous()}, sample.video, ""

    def _frames(self, sample: mmduet_data.Sample, path: Path) -> tuple[np.ndarray | None, str]:
        if str(path) in self.quarantined:
            return None, self.quarantined[str(path)]
        key = (str(path), sample.fps)
        if key in self.cached:
            return self.cached[key], ""
        whole = self.task.data["cache"]
        rule = {"rule": "accumulated", "target": sample.fps, "rounding": "floor"}
        rule["most"] = 0 if whole else sample.end
        rule["reader"] = self.task.data["reader"]
        size = {"library": "cv2", "fit": "letterbox", "size": self.task.size}
        with working_on(str(path)):
            found = decode_one(
                DecodeRequest(path.name, str(path), "file", rule, size), self.task.max_pixels
            )
        if whole and found.frames is not None:
            self.cached[key] = found.frames
        return found.frames, found.error or ""


class Task(Protocol):
    """Two losses: the answers' tokens, and both heads at every frame with a label."""

    find_unused = True  # a batch may have labels for one head only
    layers = ("Qwen2DecoderLayer", "SiglipEncoderLayer")

    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        blocks.demand_family(recipe, "mmduet")
        self.recipe, self.seed = recipe, int(recipe.get("seed", 0))
        self.data = blocks.settings(recipe, "data", DATA)
        self.options = blocks.settings(recipe, "model", MODEL)
        if self.options["wiring"] not in ("fixed", "reference"):
            raise unknown("wiring", str(self.options["wiring"]), ("fixed", "reference"))
        self.corpora = [blocks.checked(c, CORPUS, "data.corpora") for c in self.data["corpora"]]
        if not self.corpora:
            raise VireoError("an mmduet recipe needs `data: {corpora: [{kind, file, …}]}`")
        self.max_pixels = blocks.decoding(config)["max_pixels"]
        with torch.device("meta"):
            shape = mmduet.build(recipe["arch"])
        self.arch, self.tokens = shape.arch, shape.frame_tokens
        self.size = int(self.arch["vision"]["image_size"])

    @property
    def base(self) -> Path | None:
        """Folder of the base, None for a random model."""
        beside = receipt.named(self.recipe, "base")
        return beside.parent if beside else None

    @property
    def text(self) -> ChatTokenizer:
        """The tokenizer."""
        return _text(self.arch["tokenizer"], str(self.base))

    def file(self, corpus: dict[str, Any]) -> Path:
        """Annotation file of a corpus."""
        path = files.inside(blocks.source(self.recipe, corpus["annotations"]), corpus["file"])
        if not path.exists():
            raise VireoError(f"no annotations {path} (recipe: data.corpora)")
        return path

    def metadata(self, corpus: dict[str, Any], annotations: Any) -> mmduet_data.Metadata:
        """Duration of each video: from the file beside the annotations, else measured once."""
        given = blocks.source(self.recipe, corpus["annotations"]) / self.data["metadata"]
        if given.exists():
            return files.read_json(given, "metadata of videos")
        if isinstance(annotations, dict):
            names = list(annotations)
        else:
            names = [entry["video_uid"] for entry in annotations]
        videos = blocks.source(self.recipe, corpus["videos"])
        return scan(files.inside(videos, corpus["folder"]), names)

    def build(self) -> nn.Module:
        """The base with adapters, projector and heads to train, or a model trained whole."""
        generator = seeds.torch_generator(self.seed, "init")
        if self.base is None:
            model = mmduet.build(self.recipe["arch"], generator)
        else:
            mmduet.check_base(self.base, self.arch)
            with torch.device("meta"):
                model = mmduet.build(self.recipe["arch"])
            named = mmduet.base_tensors(self.base)
            for head in ("informative_head.weight", "relevance_head.weight"):
                shape = (2, self.arch["hidden_size"])
                named[head] = torch.empty(shape).normal_(std=0.02, generator=generator)
            number = dtype_of(self.recipe.get("precision") or "float32")
            checkpoint.load_into(model, named, self.base, number)
            mmduet.make_buffers(model)
        if self.options["gradient_checkpointing"]:
            model.model.language_model.gradient_checkpointing_enable()
        return adapted(model, self.options["lora"], self.options["tower"])

    def fingerprint(self) -> dict[str, Any]:
        """Hashes of the annotation files and of the base's folder."""
        found = {c["file"]: receipt.hash_of(self.file(c)) for c in self.corpora}
        return found | ({"base": receipt.folder_hash(self.base)} if self.base else {})

    def dataset(self, split: str) -> Samples:
        """All corpora one after the other."""
        return Samples(self)

    def collate(self, samples: list[dict[str, Any]]) -> Batch:
        """Left-padded ids and labels; frames of all conversations one after the other."""
        rows = [sample["encoded"] for sample in samples]
        length = max(len(row.ids) for row in rows)

        def padded(values: list[list[int]], fill: int) -> Tensor:
            return torch.tensor([[fill] * (length - len(v)) + v for v in values])

        return {
            "ids": padded([row.ids for row in rows], self.text.pad or 0),
            "padding": padded([[1] * len(row.ids) for row in rows], 0),
            "labels": padded([row.labels for row in rows], mmduet_data.IGNORE),
            "informative": padded([row.informative for row in rows], mmduet_data.IGNORE),
            "relevance": padded([row.relevance for row in rows], mmduet_data.IGNORE),
            "frames": torch.cat([sample["frames"] for sample in samples]),
            "failures": [failure for sample in samples for failure in sample["failures"]],
        }

    def loss(self, model: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Sum of the two mean cross-entropies; `video` is that of the heads."""
        first = next(model.parameters())
        pixels = mmduet.normalise(batch["frames"]).to(first.dtype)
        out = model(batch["ids"], pixels, batch["padding"], self.text.image)
        return losses(out, batch, self.options["wiring"])

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Decay for matrices only."""
        return optim.decay_groups(model, float(self.recipe["optim"].get("weight_decay", 0.0)))

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """An adapter as the authors publish it, with its scale, or all tensors, in their names."""
        kind = self.options["lora"]
        if not kind:
            return {mmduet.original(name): value for name, value in model.state_dict().items()}
        trained = self.trainable_state(model)
        scale = torch.tensor(kind["alpha"] / kind["r"])
        return {adapter_name(name): value for name, value in trained.items()} | {lora.SCALE: scale}


@lru_cache(maxsize=4)
def _text(kind: str, folder: str) -> ChatTokenizer:
    made = mmduet.TOKENIZERS.get(kind)
    return made() if made else ChatTokenizer.read(folder)


def adapted(model: mmduet.MMDuet, kind: dict[str, Any] | None, tower: bool = False) -> nn.Module:
    """The model with low-rank adapters in the language model, projector and heads trainable.

    Without `kind` everything is trained but, unless `tower`, the vision tower.
    """
    if kind is None:
        model.model.vision_tower.requires_grad_(tower)
        model.model.image_newline.requires_grad_(False)
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=kind["r"],
        lora_alpha=kind["alpha"],
        lora_dropout=kind.get("dropout", 0.0),
        target_modules=LAYERS,
        modules_to_save=WHOLE,
        bias="none",
    )
    return get_peft_model(model, config, autocast_adapter_dtype=False)  # type: ignore[arg-type]


def adapter_name(name: str) -> str:
    """A trained tensor's name in the wrapped model -> its name in an adapter file."""
    plain = name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    plain = plain.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")
    return f"base_model.model.{mmduet.original(plain)}"


def losses(out: dict[str, Tensor], batch: Batch, wiring: str) -> tuple[Tensor, Metrics]:
    """Mean cross-entropy of labelled tokens plus that of all labelled frames, both heads as one."""
    labels = batch["labels"]
    if not (labels != mmduet_data.IGNORE).any():
        # parity: without a label the first position is given the second token | a sample without
        # labels still gives a word loss | none
        labels = labels.clone()
        labels[:, 0] = batch["ids"][:, 1]
    words = F.cross_entropy(out["logits"].flatten(0, 1).float(), labels.flatten())
    if wiring == "reference":
        # parity: the released code passes the labels under names that the model ignores | with
        # `wiring: reference` the two heads are never trained | `model.wiring: fixed`, the default
        return words, {"words": words.detach(), "video": torch.zeros(())}
    logits = torch.cat([out["informative"], out["relevance"]]).flatten(0, 1).float()
    marks = torch.cat([batch["informative"], batch["relevance"]]).flatten()
    if not (marks != mmduet_data.IGNORE).any():
        marks = marks.clone()
        marks[0] = 0
    video = F.cross_entropy(logits, marks)
    return words + video, {"words": words.detach(), "video": video.detach()}
