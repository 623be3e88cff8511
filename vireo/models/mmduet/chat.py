"""How a conversation with a video becomes tokens, and what a streaming model is asked to do.

Every turn opens with <|im_start|>, a role and a newline; frames stand in `stream` turns. The system
prompt is a constant of the released checkpoint: it was trained with exactly this text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from vireo.errors import VireoError, unknown

SYSTEM_PROMPT = (
    "A multimodal AI assistant is helping users with some activities. Below is their conversation, "
    "interleaved with the list of video frames received by the assistant."
)
START, END, PAD, IMAGE = "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<image>"
# Whole words of the small tokenizer: those of the toy world and of instructions.
WORDS = (
    "about all any appear appears are as at ball bar be belongs blue can clip comment describe "
    "does find following for frames going goes green happen happens here in informed into is it "
    "keep mark me moment moments narrate new of on out part play plays please point pole put "
    "red report ring say section see seen show shown shows step that the thing this time to up "
    "video watch what when where which while words yellow you"
)
ROLES = ("system", "user", "assistant", "stream")
HEADS = ("informative_score", "relevance_score")


def system(text: str) -> str:
    """The first turn of a conversation."""
    return f"{START}system\n{text}{END}"


def user(text: str, close: bool = False) -> str:
    """A user turn; `close` ends the stream turn before it."""
    return f"{END if close else ''}\n{START}user\n{text}{END}"


def assistant(text: str) -> str:
    """A turn of the assistant."""
    return f"\n{START}assistant\n{text}{END}"


STREAM = f"\n{START}stream\n"
REPLY = f"{END}\n{START}assistant\n"  # ends the open stream turn and asks for an answer


class ChatTokenizer:
    """A tokenizer with the four special tokens; texts to ids and back, nothing added."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        missing = [t for t in (START, END, PAD) if tokenizer.token_to_id(t) is None]
        if missing:
            raise VireoError(f"the tokenizer has no {', '.join(missing)}: it is no Qwen2 tokenizer")
        if tokenizer.token_to_id(IMAGE) is None:
            tokenizer.add_special_tokens([AddedToken(IMAGE, special=True, normalized=False)])
        self.tokenizer = tokenizer
        self.start, self.end, self.pad, self.image = map(
            tokenizer.token_to_id, (START, END, PAD, IMAGE)
        )

    @classmethod
    def read(cls, folder: str | Path) -> "ChatTokenizer":
        """From `tokenizer.json`, or from the older files through transformers."""
        path = Path(folder) / "tokenizer.json"
        if path.exists():
            return cls(Tokenizer.from_file(str(path)))
        if not (Path(folder) / "vocab.json").exists():
            raise VireoError(f"no tokenizer.json or vocab.json in {folder}")
        from transformers import AutoTokenizer

        slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(slow.backend_tokenizer)

    @classmethod
    def of_bytes(cls, words: Sequence[str] = ()) -> "ChatTokenizer":
        """One token per byte, for models of toy size: ids 0..255, the special tokens, `words`."""
        from tokenizers import decoders, models, pre_tokenizers

        symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate(symbols)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = [AddedToken(t, special=True, normalized=False) for t in (PAD, START, END, IMAGE)]
        tokenizer.add_special_tokens(special)
        tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
        return cls(tokenizer)

    @classmethod
    def of_words(cls) -> "ChatTokenizer":
        """`of_bytes` with a token for each role and, behind a space, each of `WORDS`."""
        return cls.of_bytes([*ROLES, *(f" {word}" for word in WORDS.split())])

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def words(self, ids: list[int]) -> str:
        """Text of generated ids without special tokens and without spaces before punctuation."""
        return clean(self.tokenizer.decode(ids, skip_special_tokens=True))


def clean(text: str) -> str:
    """Remove the spaces that tokenizers put before punctuation and inside contractions."""
    # parity: the answers are decoded with the tokenizer library's clean-up of spaces | texts of
    # replies | none
    text = re.sub(r" ([.?!,])", r"\1", text).replace(" ' ", "'")
    return re.sub(r" (n't|'m|'s|'ve|'re)", r"\1", text)


@dataclass(frozen=True)
class Settings:
    """How the model decides and remembers; the first seven as in the reference's command line.

    At most one threshold: `prob` on a frame's score, `sum` on the running sum, which an answer
    resets; none = never answer. `heads`: scores that are added up. `query_order`: `before_frame`
    asks a question before the frame of its second, one per frame; `after_frame` once the next
    frame is later. `system_prompt`: `reference` leaves it out when a question comes before the
    first frame, `always` never does.
    """

    fps: float = 2.0
    prob: float | None = None
    sum: float | None = None
    heads: tuple[str, ...] = ("informative_score",)
    remove_assistant_turns: bool = False
    repetition_penalty: float | None = None
    max_new_tokens: int = 200
    query_order: str = "before_frame"
    system_prompt: str = "reference"
    system_text: str = SYSTEM_PROMPT

    def __post_init__(self) -> None:
        if self.prob is not None and self.sum is not None:
            raise VireoError("streaming: give one threshold, `prob` or `sum`, not both")
        if not self.fps > 0:
            raise VireoError(f"streaming: fps must be positive, it is {self.fps}")
        for head in self.heads:
            if head not in HEADS:
                raise unknown("score head", head, HEADS)
        for value, known in (
            (self.query_order, ("before_frame", "after_frame")),
            (self.system_prompt, ("reference", "always")),
        ):
            if value not in known:
                raise unknown("streaming setting", value, known)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Settings":
        """From a protocol's block; VireoError names an unknown key."""
        known = cls.__dataclass_fields__
        for key in values:
            if key not in known:
                raise unknown("streaming setting", key, known)
        given = dict(values)
        if "heads" in given:
            given["heads"] = tuple(given["heads"])
        return cls(**given)


@dataclass
class Trigger:
    """The rule that says at which frames the model answers."""

    settings: Settings
    total: float = 0.0

    def fires(self, informative: float, relevance: float) -> bool:
        """Add a frame's scores; whether they pass the threshold (which resets a running sum)."""
        both = dict(zip(HEADS, (informative, relevance), strict=True))
        score = sum(both[head] for head in self.settings.heads)
        self.total += score
        if self.settings.sum is not None and self.total > self.settings.sum:
            self.total = 0.0
            return True
        return self.settings.prob is not None and score > self.settings.prob


@dataclass
class Outcome:
    """What a model saw and said. `frames`: time and both scores of each; `said`: turns in the
    order of time, user turns first; `generated`: ids of each answer."""

    frames: list[dict[str, float]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    generated: list[list[int]] = field(default_factory=list)
    length: int = 0  # entries in memory at the end

    @property
    def said(self) -> list[dict[str, Any]]:
        """All turns by time; of equal times the user's first."""
        return sorted(self.asked + self.answered, key=lambda turn: turn["time"])

    def line(self, question_id: str, duration: float | None = None) -> dict[str, Any]:
        """The output line of the original code (scores rounded to three decimals)."""
        # parity: metrics are computed from scores of three decimals | scores near a threshold |
        # none
        debug = [{k: round(v, 3) for k, v in frame.items()} for frame in self.frames]
        return {
            "question_id": question_id,
            "video_duration": duration,
            "model_response_list": self.said,
            "debug_data": debug,
        }
