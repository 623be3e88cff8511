"""CLIP's byte-pair tokenizer: strings -> rows of ids of one length.

Made from open_clip's `SimpleTokenizer` (its wheel holds the vocabulary, so nothing is downloaded).
The reference differs from it in one thing: which literal strings in a text stand for the special
ids. The reference knows `<|startoftext|>` and `<|endoftext|>`; open_clip its own two spellings.
"""

import importlib.util
from pathlib import Path
from typing import Any

import regex
import torch
from torch import Tensor

START, END = 49406, 49407
_SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
_PATTERN = regex.compile(
    "|".join(map(regex.escape, _SPECIAL))
    + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class Tokenizer:
    """Callable on a list of strings; `truncated` counts the texts cut so far."""

    def __init__(self, context_length: int = 32) -> None:
        self.context_length = context_length
        self.truncated = 0
        self._bpe = _open_clip().SimpleTokenizer(context_length=context_length)

    def encode(self, text: str) -> list[int]:
        """Ids of one text without start, end and padding."""
        ids: list[int] = []
        for piece in _PATTERN.findall(self._bpe.clean_fn(text)):
            # parity: a literal special string becomes the special id | such a text is pooled at the
            # first end token | none: four of 262 test strings, all with the literal tokens
            if piece in _SPECIAL:
                ids.append(_SPECIAL[piece])
                continue
            letters = "".join(self._bpe.byte_encoder[byte] for byte in piece.encode("utf-8"))
            ids.extend(self._bpe.encoder[part] for part in self._bpe.bpe(letters).split(" "))
        return ids

    def __call__(self, texts: list[str]) -> Tensor:
        """N strings -> int64 [N, context_length]: start, ids, end, zeros.

        A longer text keeps its first ids and its last one is overwritten by the end id.
        """
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [START, *self.encode(text), END]
            if len(ids) > self.context_length:
                self.truncated += 1
                ids = [*ids[: self.context_length - 1], END]
            row[: len(ids)] = torch.tensor(ids)
        return rows


def _open_clip() -> Any:
    """open_clip's tokenizer module alone: its package would import timm and more, 2 CPU seconds."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin, "open-clip-torch is in pyproject.toml"
    file = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("vireo_open_clip_tokenizer", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
