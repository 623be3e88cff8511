"""Sentences around class names, as they stand after `words.clean`; `{}` is the cleaned name.

`action16` is ActionCLIP's set for zero-shot evaluation, `clip28` CLIP's set for action labels in
training. Source: tests/golden/viclip/misc.json, `prompt_templates_normalised`.
"""

from vireo.errors import unknown
from vireo.nn.text_clean import clean_caption

TEMPLATES: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "action16": (
        "a photo of action {}",
        "a picture of action {}",
        "human action of {}",
        "{} an action",
        "{} this is an action",
        "{} a video of action",
        "playing action of {}",
        "{}",
        "playing a kind of action {}",
        "doing a kind of action {}",
        "look the human is {}",
        "can you recognize the action of {}",
        "video classification of {}",
        "a video of {}",
        "the man is {}",
        "the woman is {}",
    ),
    "clip28": (
        "a photo of action {}",
        "a video of action {}",
        "he or she is {}",
        "a person is doing {}",
        "look the human is {}",
        "human action of {}",
        "playing action of {}",
        "video classification of {}",
        "doing a kind of action {}",
        "playing a kind of action {}",
        "can you recognize the action of {}",
        "{} an action",
        "{} this is an action",
        "{} a video of action",
        "an action of {} is in the video",
        "there is a person doing {} in the video",
        *(
            f"a {what} of a person {how} {{}}"
            for what in ("photo", "video", "example", "demonstration")
            for how in ("doing", "performing", "practicing")
        ),
    ),
}


def expand(name: str, which: str = "action16") -> list[str]:
    """The prompts of one class name; VireoError for an unknown set."""
    if which not in TEMPLATES:
        raise unknown("set of prompt templates", which, TEMPLATES)
    cleaned = clean_caption(name)
    return [template.replace("{}", cleaned) for template in TEMPLATES[which]]
