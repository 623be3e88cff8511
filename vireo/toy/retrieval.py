"""Toy retrieval: test.json in the form of the real lists, every video with another content.

Every fourth video has two captions, one of them in other words.
"""

from pathlib import Path

from vireo import toy
from vireo.toy import captions, scene
from vireo.toy.kinetics import TINTS, clip, identifier
from vireo.toy.viclip_train import held_out
from vireo.utils.files import write_json

VIDEOS = 48


def make(root: Path, seed: int) -> None:
    """Write the list and the videos into the folder `root`."""
    (root / "videos").mkdir(parents=True)
    # Held-out pairs of shape and motion, each with all colours: 4 shapes x 2 motions x 4 colours.
    pairs = [(s, m) for s in scene.SHAPES for m in scene.MOTIONS if held_out(s, m)]
    contents = [
        (shape, colour, motion, texture)
        for shape, motion in pairs
        for colour in scene.COLOURS
        for texture in scene.TEXTURES
    ]
    order = toy.rng(seed, "retrieval", "order").permutation(len(contents))[:VIDEOS]
    entries: list[dict[str, object]] = []
    for place, which in enumerate(order):
        shape, colour, motion, texture = contents[which]
        rng = toy.rng(seed, "retrieval", place)
        name = f"{identifier(rng)}.mp4"
        clip(rng, root / "videos" / name, contents[which], TINTS["val"])
        said = captions.statement(colour, shape, motion, texture)
        other = captions.statement(colour, shape, motion, texture, wording=1)
        entries.append({"video": name, "caption": [said, other] if place % 4 == 0 else said})
    write_json(root / "test.json", entries)
