"""How frames become model input and texts become prompts."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from vireo.config.base import (
    RGB,
    Block,
    Count,
    Flag,
    Index,
    Open,
    Positive,
    RGBDivisor,
    Sides,
    Sweep,
    key,
)


class VideoReader(Block):
    """What the authors' reader decides of pictures and rates (vireo/media/reader.py)."""

    defaults_dumped = "none"

    matrix: Literal["tagged", "bt601"] | None = key(
        "YUV to RGB by the stream's tag, or BT.601 whatever it says.", None
    )
    range: Literal["tagged", "pixel_format"] | None = key(
        "Full range where the tag says so, or only for FFmpeg's yuvj formats.", None
    )
    chroma: Literal["tagged", "center"] | None = key("Where subsampled colour lies.", None)
    kernel: Literal["bilinear", "bicubic"] | None = key("How it is interpolated.", None)
    rate: Literal["average", "nominal"] | None = key("Frame rate that clocks count by.", None)
    orientation: Literal["angle", "matrix"] | None = key(
        "Turned by the display matrix's angle, or mirrored too where it says so.", None
    )
    jpeg: Annotated[int, Field(ge=1, le=100)] | None = key(
        "Quality of a JPEG file that every frame goes through (default: none).", None
    )
    short: Literal["accept", "refuse"] | None = key(
        "Whether a file that ends before its header says is undecodable.", None
    )


class Frames(Open):
    """Which frames are taken: a rule by name with its numbers (vireo/media/sampling.py)."""

    rule: str | None = key("Name of the rule; `fpsX` takes X frames a second.", None)
    n: Count | None = key("Frames (of each clip or view).", None)
    reader: VideoReader | None = key("Choices of the authors' reader.", None)
    store: Flag | None = key("Keep the chosen frames, without loss, under cache/frames.", None)
    candidates: Count | None = key("slicer_then_stride: segment middles taken first.", None)
    dedupe: Flag | None = key("slicer_then_stride: one frame per second of the clock.", None)
    segments: Count | None = key("*_views: choices of frames (default: those of `views`).", None)
    clips: Count | None = key("sparse_clips: clips per video.", None)
    strategy: str | None = key("sparse_clips: how clips are placed.", None)
    target: Positive | None = key("Rate of the chosen frames.", None, unit="frames per second")
    most: Index | None = key("Most frames that are taken; 0 = no limit (fps).", None)
    rounding: str | None = key("accumulated: how frame times are rounded.", None)
    seed: Index | None = key("Random rules: seed.", None)
    epoch: Index | None = key("Random rules: epoch.", None)
    index: Index | None = key("Random rules: number of the sample.", None)


class Resize(Open):
    """How frames get their size (vireo/media/resize.py)."""

    library: Literal["cv2", "pil", "torch", "none"] | None = key("What does it.", None)
    interpolation: (
        Literal["nearest", "bilinear", "bicubic", "area", "lanczos", "box", "hamming"] | None
    ) = key("Kernel.", None)
    antialias: Flag | None = key("Whether shrinking is smoothed.", None)
    size: Sides | None = key(
        "Side, or [height, width]; the model's size if not given.", None, unit="pixels"
    )
    fit: Literal["stretch", "short", "letterbox"] | None = key(
        "Stretch to the size, scale the short side to it, or add black borders.", None
    )
    crop: Literal["center"] | None = key("Crop after scaling the short side.", None)


class Views(Open):
    """Segments x crops per video; their predictions are merged by the benchmark."""

    segments: Count | None = key("Choices of frames.", None)
    crops: Count | None = key("Square crops along the long side.", None)


class Watch(Open):
    """How a streaming model decides when to answer and what it remembers."""

    prob: Sweep | None = key("Threshold on a frame's score; a list is swept.", None)
    sum: Sweep | None = key(
        "Threshold on the running sum of scores, reset by an answer; a list is swept.", None
    )
    heads: list[str] | None = key("Scores that are added up.", None)
    remove_assistant_turns: Flag | None = key("Forget earlier answers.", None)
    repetition_penalty: Positive | None = key("Of generated words.", None)
    max_new_tokens: Count | None = key("Longest answer.", None, unit="tokens")
    query_order: Literal["before_frame", "after_frame"] | None = key(
        "Whether a question comes before or after the frame of its second.", None
    )
    system_prompt: Literal["reference", "always"] | None = key(
        "`reference` leaves it out when a question comes before the first frame.", None
    )
    system_text: str | None = key("The system prompt.", None)


class Prompt(Open):
    """How texts are worded; keys belong to the benchmark's file."""

    letter_prefix: Flag | None = key('Keep "A. " before an option.', None)
    question_in_text: Flag | None = key("Put the question before each option.", None)
    templates: str | None = key("Name of the sentences that hold a class name.", None)
    paragraph: Flag | None = key("Join the captions of a video to one text.", None)
    context_length: Count | None = key("Longest text of a dual encoder.", None, unit="tokens")
    tokens: Count | None = key("Longest question of an answerer.", None, unit="tokens")
    aggregate: Literal["lse", "mean", "max"] | None = key(
        "How an answerer joins the logits of clips.", None
    )
    watch: Watch | None = key("A streaming model's settings.", None)


class Protocol(Open):
    """How frames become model input and texts become prompts. Part of the cache key."""

    model_config = ConfigDict(extra="forbid")

    frames: Frames | None = key("Which frames are taken.", None)
    resize: Resize | None = key("How they get their size.", None)
    views: Views | None = key("Segments x crops per video.", None)
    prompt: Prompt | None = key("How texts are worded.", None)


class Resolved(Protocol):
    """The protocol of one model on one benchmark, with the model's normalisation and size."""

    mean: RGB | None = key("Per-channel mean (RGB, 0..1).", None)
    std: RGBDivisor | None = key("Per-channel standard deviation.", None)
    size: Count | None = key("Side of the square input.", None, unit="pixels")
