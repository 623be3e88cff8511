"""`data` and `model` of a recipe, by the training task of ours that reads them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from vireo.config.base import (
    RGB,
    Block,
    Count,
    Flag,
    Index,
    NotNegative,
    Positive,
    RGBDivisor,
    Share,
    key,
)
from vireo.config.families import TeacherSizes
from vireo.config.protocol import Frames, VideoReader
from vireo.config.readers import Lists

Span = Annotated[list[Positive], Field(min_length=2, max_length=2)]
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


class Part(Block):
    """`data` or `model` of a recipe."""

    defaults_dumped = "none"


class _Pixels(Part):
    """How clips become input."""

    flip: Share = key("Chance of a mirrored clip.", 0.5)
    mean: RGB = key("Per-channel mean.", MEAN)
    std: RGBDivisor = key("Per-channel standard deviation.", STD)
    cache_decoded: Flag = key("Keep decoded videos in memory.", False)


class ContrastiveData(_Pixels):
    """viclip_pretrain: clips with captions."""

    listing: str = key("List of the clips.", "train.json", alias="list")
    val_list: str = key("List of the validation clips.", "val.json")
    videos: str = key("Folder of the clips.", ".")
    frames: Frames = key("Which frames.", Frames.model_validate({"rule": "rand", "n": 8}))
    scale: Span = key("Share of the area that is cropped.", [0.5, 1.0])
    min_words: Index = key("Shortest caption.", 2, unit="words")
    ids: Literal["own", "joint"] = key(
        "Whether clips of several corpora are told apart in the loss (`joint`).", "own"
    )


class ContrastiveModel(Part):
    """viclip_pretrain: masking and frozen parts."""

    mask_ratio: Share = key("Share of patches that is left out.", 0.9)
    freeze_text: Flag = key("Leave the text tower as it is.", True)
    temp: Positive | None = key("Temperature at the start (default: the weights').", None)
    position_std: NotNegative | None = key("Spread of random position tables.", None)
    gather: Literal["reference", "corrected"] = key("Gradients over processes.", "reference")


class ClassifierData(Lists, _Pixels):
    """viclip_finetune and videomamba_finetune: labelled clips."""

    val_list: str | None = key("Name of the validation list.", None)
    frames: Frames = key("Which frames.", Frames.model_validate({"rule": "sparse_random"}))
    val_frames: Frames = key(
        "Which frames in validation.",
        Frames.model_validate({"rule": "sparse_views", "segments": 1}),
    )
    repeats: Count = key("Augmented copies of a clip per epoch.", 2)
    rand_augment: str | None = key("RandAugment, as timm writes it.", "rand-m7-n4-mstd0.5-inc1")
    scale: Span = key("Share of the area that is cropped.", [0.08, 1.0])
    erase: Share = key("Chance of an erased rectangle.", 0.25)
    mixup: NotNegative = key("Alpha of mixup; 0 = off.", 0.8)
    cutmix: NotNegative = key("Alpha of cutmix; 0 = off.", 1.0)
    smoothing: Share = key("Label smoothing.", 0.1)
    resize: Literal["bicubic", "bilinear"] = key("Kernel of the resize.", "bicubic")
    validating: Flag = key("Validate while training.", True, alias="validate")
    keep: Literal["best", "last"] = key("Which weights stay.", "best")


class VideoMambaData(ClassifierData):
    """videomamba_finetune: labelled clips, or clips with a number."""

    resize: Literal["bicubic", "bilinear"] = key("Kernel of the resize.", "bilinear")
    regression: Flag = key("Targets are numbers.", False)


class ClassifierModel(Part):
    """viclip_finetune."""

    layer_decay: Share = key("Factor of the learning rate from block to block.", 1.0)


class VideoMambaModel(Part):
    """videomamba_finetune."""

    layer_decay: Share = key("Factor of the learning rate from block to block.", 0.75)
    decay_rule: Literal["faithful", "corrected"] = key("Which blocks it counts.", "faithful")
    start: Literal["same", "new_head", "image", "pretrain", "new_head_and_time"] = key(
        "What of the initial weights is left out.", "same"
    )
    centre: Flag = key("How 2-D patches become 3-D: the middle frame, or all.", True)
    lr_per: Count | None = key("Clips of a step that `optim.lr` is for.", 256)


class DistillData(Lists, _Pixels):
    """videomamba_pretrain: clips."""

    val_list: str | None = key("Not used.", None)
    frames: Frames = key("Which frames.", Frames.model_validate({"rule": "halves_random"}))
    scales: list[Positive] = key("Crop sides, as shares of the short side.", [1, 0.875, 0.75, 0.66])


class DistillModel(Part):
    """videomamba_pretrain: the mask, the loss and the teacher."""

    mask: Literal["attention", "tube", "random", "tube_row", "random_row"] = key(
        "Which patches are left out.", "attention"
    )
    mask_ratio: Share = key("Share of patches that is left out.", 0.8)
    loss: Literal["l2", "mse", "smooth_l1"] = key("Distance of features.", "l2")
    loss_ratio: Positive = key("Factor of the loss.", 1.0)
    teacher: TeacherSizes = key("The teacher's sizes.", TeacherSizes())
    lr_per: Count | None = key("Clips of a step that `optim.lr` is for.", 256)


class AnswerData(Part):
    """sqa3d: questions and clips."""

    clips: Count = key("Random clips per video.", 8)
    frames: Count = key("Frames of a clip.", 2)
    target: Positive = key("Rate of the frames.", 2.0, unit="frames per second")
    size: Count = key("Side of the input.", 448, unit="pixels")
    tokens: Count = key("Longest question.", 100, unit="tokens")
    mean: RGB = key("Per-channel mean.", MEAN)
    std: RGBDivisor = key("Per-channel standard deviation.", [1 / 255] * 3)
    cache_decoded: Flag = key("Keep decoded videos in memory.", False)
    val_clips: Count = key("Clips in validation.", 1)
    questions: Count = key("Questions per scene and sample.", 1)
    reader: VideoReader = key(
        "Choices of the authors' reader.",
        VideoReader(matrix="bt601", range="pixel_format", chroma="center"),
    )


class AnswerModel(Part):
    """sqa3d: frozen parts and how clips are joined."""

    freeze: list[str] = key("Parts of the ResNet that stay.", ["stem", "res2"])
    aggregate: Literal["lse", "mean", "max"] = key("How clips are joined.", "lse")
    two_pass: Flag = key("The memory of one clip, for a third more time.", False)
    calibrate: Index = key("Batches that set the statistics of a fresh ResNet.", 0)


class Corpus(Part):
    """A file of conversations."""

    kind: Literal["captions", "questions", "grounding"] = key("What it holds.")
    file: str = key("Its path.")
    fps: Positive = key("Rate of the frames.", 2.0, unit="frames per second")
    max_frames: Count = key("Most frames.", 128)
    annotations: str = key("Role of the source with the annotations.", "train")
    videos: str = key("Role of the source with the videos.", "videos")
    folder: str = key("Folder of the videos.", ".")


class DialogueData(Part):
    """mmduet: conversations about videos."""

    corpora: list[Corpus] = key("Files of conversations.", [])
    metadata: str = key("File with the lengths of the videos.", "videos_metadata.json")
    cache: Flag = key("Keep decoded videos in memory.", False)
    reader: VideoReader = key(
        "Choices of the authors' reader.",
        VideoReader(matrix="bt601", range="pixel_format", chroma="center", kernel="bicubic"),
    )


class Lora(Part):
    """Low-rank adapters."""

    r: Count = key("Rank.", 16)
    alpha: Positive = key("Scale.", 32)
    dropout: Share = key("Dropout.", 0.05)


class DialogueModel(Part):
    """mmduet: what is trained."""

    lora: Lora | None = key("Adapters; null = all weights but the tower's.", Lora())
    wiring: Literal["fixed", "reference"] = key(
        "The released code leaves both heads untrained: `reference` reproduces that.", "fixed"
    )
    gradient_checkpointing: Flag = key("Compute blocks again in the backward pass.", False)
    tower: Flag = key("Without adapters: train the tower too.", False)
    system: str | None = key("System prompt (default: the reference's).", None)


DATA: dict[str, type[Part]] = {
    "viclip_pretrain": ContrastiveData,
    "viclip_finetune": ClassifierData,
    "videomamba_finetune": VideoMambaData,
    "videomamba_pretrain": DistillData,
    "sqa3d": AnswerData,
    "mmduet": DialogueData,
}
MODEL: dict[str, type[Part]] = {
    "viclip_pretrain": ContrastiveModel,
    "viclip_finetune": ClassifierModel,
    "videomamba_finetune": VideoMambaModel,
    "videomamba_pretrain": DistillModel,
    "sqa3d": AnswerModel,
    "mmduet": DialogueModel,
}


def full(kind: type[Part], given: dict[str, Any]) -> dict[str, Any]:
    """A part with its defaults, as the task reads it."""
    return kind.model_validate(given).model_dump()
