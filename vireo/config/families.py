"""Sizes (`arch`) and switches (`options`) of the families of vireo/models, known without torch.

A family that is not listed here keeps its own counsel: its `build(arch)` checks what it is given.
`frames_taken` is how many frames of a view the architecture can take (empty: any number).
"""

from typing import Any, ClassVar, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from vireo.config.base import Block, Count, Flag, Index, NotNegative, Positive, Share, key


class Sizes(Block):
    """Sizes of an architecture; some are multiples of others."""

    defaults_dumped = "none"
    multiples: ClassVar[dict[str, str]] = {}

    @model_validator(mode="after")
    def _fit(self) -> Any:
        for whole, part in self.multiples.items():
            number, unit = getattr(self, whole), getattr(self, part)
            if number % unit:
                text = f"{whole} {number} is no multiple of {part} {unit}"
                raise PydanticCustomError("multiple", "{text}", {"text": text})
        return self

    def frames_taken(self) -> tuple[int, ...]:
        """Numbers of frames that a view may have; empty = any."""
        return ()

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Defaults of the keys that may be left out."""
        return {
            name: field.get_default(call_default_factory=True)
            for name, field in cls.model_fields.items()
            if not field.is_required()
        }


class _Tower(Sizes):
    """ViCLIP's video tower."""

    image_size: Count = key("Side of the input.", unit="pixels")
    patch_size: Count = key("Side of a patch.", unit="pixels")
    width: Count = key("Width of the tower.")
    layers: Count = key("Blocks.")
    heads: Count = key("Attention heads.")
    num_frames: Count = key("Rows of the temporal table.")
    context_length: Count = key("Longest text.", 32, unit="tokens")
    vocab_size: Count = key("Rows of the token table.", 49408)
    drop_path: Share = key("Stochastic depth of the last block.", 0.1)
    checkpoint_num: Index = key("Blocks that are computed again in the backward pass.", 0)
    # parity: the authors' code has QuickGELU everywhere, also over weights trained with plain GELU
    # | scores of weights trained with plain GELU | `arch.act: gelu`
    act: Literal["quick_gelu", "gelu"] = key("Activation.", "quick_gelu")

    def frames_taken(self) -> tuple[int, ...]:
        """As many as the temporal table has rows, or one image."""
        return (self.num_frames, 1)


class ViCLIP(_Tower):
    """ViCLIP: a video tower and a text tower."""

    multiples: ClassVar = {"image_size": "patch_size", "width": "heads", "text_width": "text_heads"}

    embed_dim: Count = key("Width of the common space.")
    text_width: Count = key("Width of the text tower.")
    text_layers: Count = key("Blocks of the text tower.")
    text_heads: Count = key("Attention heads of the text tower.")


class ViCLIPClassifier(_Tower):
    """ViCLIP's video tower and a linear head."""

    multiples: ClassVar = {"image_size": "patch_size", "width": "heads"}

    num_classes: Count = key("Rows of the head.")


class ClipBERT(Sizes):
    """ClipBERT: a ResNet's grid features, then BERT."""

    multiples: ClassVar = {"hidden_size": "heads"}

    hidden_size: Count = key("Width of BERT.", 768)
    layers: Count = key("Blocks.", 12)
    heads: Count = key("Attention heads.", 12)
    intermediate_size: Count = key("Width of the feed-forward part.", 3072)
    vocab_size: Count = key("Words.", 30522)
    positions: Count = key("Longest text.", 512, unit="tokens")
    token_types: Count = key("Rows of the token type table.", 2)
    rows: Count = key("Rows of the grid's position table.", 100)
    columns: Count = key("Columns of the grid's position table.", 100)
    stem: Count = key("Channels of the ResNet's stem.", 64)
    res2: Count = key("Channels of its second stage.", 256)
    width: Count = key("Width of its bottleneck.", 64)
    blocks: list[Count] = key("Blocks of its stages.", [3, 4, 6, 3])
    labels: Count = key("Answers.", 1500)
    dropout: Share = key("Dropout.", 0.1)
    init_range: Positive = key("Standard deviation of initial weights.", 0.02)
    blind: Flag = key("Leave the video out.", False)


class MMDuetVision(Sizes):
    """MMDuet's SigLIP tower."""

    multiples: ClassVar = {"hidden_size": "heads"}

    hidden_size: Count = key("Width.", 1152)
    intermediate_size: Count = key("Width of the feed-forward part.", 4304)
    layers: Count = key("Blocks.", 26)
    heads: Count = key("Attention heads.", 16)
    image_size: Count = key("Side of the input.", 384, unit="pixels")
    patch_size: Count = key("Side of a patch.", 14, unit="pixels")


class MMDuet(Sizes):
    """MMDuet: SigLIP, a projector, Qwen2 and two score heads."""

    hidden_size: Count = key("Width of the language model.", 3584)
    intermediate_size: Count = key("Width of its feed-forward part.", 18944)
    layers: Count = key("Blocks.", 28)
    heads: Count = key("Attention heads.", 28)
    kv_heads: Count = key("Heads of keys and values.", 4)
    vocab_size: Count = key("Words.", 152064)
    rope_theta: Positive = key("Base of the rotary frequencies.", 1e6)
    positions: Count = key("Longest context.", 32768, unit="tokens")
    rms_norm_eps: Positive = key("Added to the variance.", 1e-6)
    pool_stride: Count = key("Stride of the pooling of patches.", 4)
    tokenizer: Literal["file", "bytes", "words"] = key("Where the tokenizer comes from.", "file")
    vision: MMDuetVision = key("Sizes of the tower.", MMDuetVision())


class VideoMamba(Sizes):
    """VideoMamba: a bidirectional scan over the patches of all frames."""

    multiples: ClassVar = {"image_size": "patch_size", "num_frames": "tubelet"}

    width: Count = key("Width.")
    depth: Count = key("Blocks.")
    image_size: Count = key("Side of the input.", 224, unit="pixels")
    patch_size: Count = key("Side of a patch.", 16, unit="pixels")
    num_frames: Count = key("Frames of a clip.", 8)
    # parity: the reference's argument defaults to 2, every published script says 1 | 2 would halve
    # the temporal positions | `arch.tubelet: 2`
    tubelet: Count = key("Frames of a token.", 1)
    image: Flag = key("The image model: one frame, 2-D patches, no temporal table.", False)
    drop: Share = key("Dropout of positions.", 0.0)
    drop_path: Share = key("Stochastic depth of the last block.", 0.1)
    fc_drop: Share = key("Dropout before the head.", 0.0)
    checkpoint_num: Index = key("Blocks that are computed again in the backward pass.", 0)
    scan: Literal["auto", "chunked", "numba", "triton", "mamba_ssm", "loop"] = key(
        "Who computes the scan.", "auto"
    )
    steps: Literal["authors", "mamba"] = key(
        "How the scan's step sizes start; `mamba` reaches further from the first.", "authors"
    )

    def frames_taken(self) -> tuple[int, ...]:
        """Exactly those of the temporal table; an image model takes one."""
        return (1,) if self.image else (self.num_frames,)


class VideoMambaClassifier(VideoMamba):
    """VideoMamba and a linear head."""

    num_classes: Count = key("Rows of the head (1: regression).")


class VideoMambaStudent(VideoMamba):
    """VideoMamba in masked pre-training."""

    output_dim: Count = key("Width of the teacher's features.", 512)
    return_layers: Count = key("Layers that are aligned.", 1)
    interval: Positive = key("Distance of aligned layers.", 1.0)
    last_mixer: Flag = key("Align the last mixer's output too.", False)


class MMDuetOptions(Block):
    """Switches of MMDuet."""

    defaults_dumped = "none"

    base: str | None = key("Folder of the base model.", None)
    merge: Flag = key("Merge the low-rank pairs into the weights.", True)
    tower_autocast: Literal["float16", "bfloat16"] | None = key(
        "Number format of the tower on a GPU.", None
    )


class VideoMambaOptions(Block):
    """Switches of VideoMamba."""

    defaults_dumped = "none"

    labels: Any = key("Names of the head's rows: a list, or how many numbered ones.", None)


class NoOptions(Block):
    """A family without switches."""


class TeacherSizes(Sizes):
    """A CLIP teacher's sizes; those of CLIP-B/16 where not given."""

    width: Count = key("Width.", 768)
    layers: Count = key("Blocks.", 12)
    heads: Count = key("Attention heads.", 12)
    output_dim: Count = key("Width of the features.", 512)
    image_size: Count = key("Side of the input.", 224, unit="pixels")
    patch_size: Count = key("Side of a patch.", 16, unit="pixels")
    return_layers: Count = key("Layers that are aligned.", 1)
    interval: NotNegative = key("Distance of aligned layers.", 1.0)


ARCHS: dict[str, type[Sizes]] = {
    "viclip": ViCLIP,
    "viclip_classifier": ViCLIPClassifier,
    "clipbert": ClipBERT,
    "mmduet": MMDuet,
    "videomamba": VideoMambaClassifier,
}
OPTIONS: dict[str, type[Block]] = {
    "viclip": NoOptions,
    "viclip_classifier": NoOptions,
    "clipbert": NoOptions,
    "mmduet": MMDuetOptions,
    "videomamba": VideoMambaOptions,
}
# Architectures that training builds in another form.
TRAINED: dict[str, type[Sizes]] = {"videomamba_pretrain": VideoMambaStudent}
