"""Toy events in words: captions for training, and the statements that questions offer."""

import numpy as np

# The first wording of each motion is the one that questions use.
VERBS: dict[str, tuple[str, ...]] = {
    "left": ("moves left", "goes to the left", "slides left"),
    "right": ("moves right", "goes to the right", "slides right"),
    "up": ("moves up", "goes to the top", "rises up"),
    "down": ("moves down", "goes to the bottom", "sinks down"),
    "grows": ("grows", "becomes larger", "gets bigger"),
    "shrinks": ("shrinks", "becomes smaller", "gets tiny"),
    "appears": ("appears", "comes into view", "shows up"),
    "vanishes": ("vanishes", "goes out of view", "disappears"),
}
PLACES = ("on {}", "in front of {}", "over {}")
LETTERS = "ABCD"


def statement(
    colour: str | None = None,
    shape: str | None = None,
    motion: str | None = None,
    texture: str | None = None,
    wording: int = 0,
) -> str:
    """Say what is known of an event, "a red ball moves left on stripes"; None is left out."""
    words = ["a", colour or "", shape or "shape"]
    if motion:
        words.append(VERBS[motion][wording])
    if texture:
        words.append(PLACES[wording].format(texture))
    return " ".join(word for word in words if word)


def caption(rng: np.random.Generator, colour: str, shape: str, motion: str) -> str:
    """Describe an event in one of several wordings.

    Half of the captions carry a letter like items of a list ("B. a red ball"), drawn at random, so
    that the text tower learns that the letter in front of an option says nothing.
    """
    text = statement(colour, shape, motion, wording=int(rng.choice(3, p=(0.8, 0.1, 0.1))))
    return f"{rng.choice(list(LETTERS))}. {text}" if rng.random() < 0.5 else text


def option(letter: str, text: str) -> str:
    """Write an option as Video-MME does: "A. A red ball." """
    return f"{letter}. {text[0].upper()}{text[1:]}."
