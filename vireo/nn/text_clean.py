"""Cleaning of captions and class names before the tokenizer, as ViCLIP does it.

Source: docs/reference/viclip.md section 5.1; vectors `pre_text` in tests/golden/viclip/misc.json.
"""

import re

_DELETED = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")


def clean_caption(text: str, most: int | None = None) -> str:
    """Lower case, without punctuation, hyphens and slashes as blanks, at most `most` words."""
    text = text.lower().translate(_DELETED).replace("<person>", "person")
    # parity: a single tab or line break inside the text stays, only runs become one blank | other
    # tokens for captions that hold one | none
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return text if most is None else " ".join(text.split(" ")[:most])


def normalise_label(name: str) -> str:
    """A class name as it may be compared: `hugging_(not_baby)` is `hugging (not baby)`."""
    return " ".join(re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")).split())
