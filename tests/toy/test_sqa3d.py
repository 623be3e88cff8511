"""Toy SQA3D: real formats, answers that can be seen, and wording that tells nothing."""

import io
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vireo import toy
from vireo.benchmarks import sqa3d
from vireo.media.sens import Sens
from vireo.models.clipbert import Tokenizer
from vireo.nn import answers
from vireo.toy import sqa3d as world
from vireo.toy.scene import COLOURS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller world of the same kind."""
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "ROOMS", {"train": 6, "val": 1, "test": 2})
        toy.maker("toy_sqa3d")(folder, 0)
    return folder


@pytest.fixture(scope="module")
def items(root: Path) -> pd.DataFrame:
    block = {"splits": ["train", "val", "test"]}
    return sqa3d.items({"questions": root / "sqa_task"}, block)


def test_the_scans_are_scannets(root: Path) -> None:
    paths = sorted((root / "scans").glob("scene*_00/scene*_00.sens"))
    assert len(paths) == 9
    with Sens(paths[0]) as sens:
        frames = list(sens.frames())
        assert len(frames) == sens.header.frames >= 400 and len(sens.imu()) == 0
        assert 0 < sum(frame.lost for frame in frames) <= 5
        for frame in (frames[0], frames[380], frames[-1]):
            assert frame.color().shape == (48, 64, 3) and frame.depth().shape == (12, 16)
        with Image.open(io.BytesIO(frames[0].color_payload())) as picture:
            assert picture.format == "JPEG"


def test_questions_join_and_their_words_are_known(root: Path, items: pd.DataFrame) -> None:
    assert Counter(items["split"]) == {"train": 90, "val": 15, "test": 30}
    assert set(items["answer"]) <= set(answers.read(root / "sqa_task/answer_dict.json"))
    kinds = Counter(json.loads(m)["answer_type"] for m in items["meta"])
    assert set(kinds) == {"what", "is", "how", "can", "which", "others"}
    probes = Counter(json.loads(m)["probe"] for m in items["meta"])
    assert probes["unseen"] * 5 == len(items)
    ids, mask = Tokenizer(root / "vocab.txt")(list(items["question"]), 32)
    assert int(mask.sum(1).max()) < 32 and not (ids == 1).any(), "no word is unknown"


def test_colours_can_be_seen_in_the_frames_that_inference_sees(
    root: Path, items: pd.DataFrame
) -> None:
    checked = 0
    for item in items.itertuples():
        meta = json.loads(str(item.meta))
        if meta["answer_type"] != "what":
            continue
        with Sens(root / f"scans/{item.video}/{item.video}.sens") as sens:
            frames = {f.index: f for f in sens.frames(20)}
            seen = [0, 380] if meta["probe"] == "seen" else [9 * 20, 25 * 20]
            pixels = np.concatenate([frames[k].color().reshape(-1, 3) for k in seen])
        apart = np.abs(pixels.astype(int) - COLOURS[str(item.answer)]).max(1)
        assert (apart < 45).sum() > 15, item.question
        checked += 1
    assert checked > 10


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rng = toy.rng(3, "sqa3d", 0)
        world.scan(tmp_path / name, world.room(rng), rng)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_words_do_not_tell_the_answer() -> None:
    rng, told = np.random.default_rng(0), defaultdict(Counter)
    for _ in range(400):
        for text, answer, _ in world.asked(world.room(rng), rng):
            told[text][answer] += 1
    for text, counts in told.items():
        number = sum(counts.values())
        expected = 0.25 if "color" in text else 0.5
        chance = (expected * (1 - expected) / number) ** 0.5
        assert counts.most_common(1)[0][1] / number < expected + 4 * chance, (text, counts)
