"""The toy Video-MME: the real columns, nothing to guess from, sure questions, two broken videos."""

from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest

from vireo.media.decode import DecodeRequest, decode_one
from vireo.toy import captions, scene, viclip_train, videomme


def read(root, name):
    return (root / name).read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("videomme")
    videomme.make(root, 3)
    return root


@pytest.fixture(scope="module")
def rows(world):
    return pd.read_parquet(world / "videomme/test-00000-of-00001.parquet")


def told(root) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def test_the_same_seed_gives_the_same_bytes(world, tmp_path, monkeypatch):
    # The long films take the time and are made by the same code.
    for world_root, seed in ((tmp_path / "a", 3), (tmp_path / "b", 3), (tmp_path / "c", 4)):
        (world_root / "videos").mkdir(parents=True)
        (world_root / "subtitle").mkdir()
        shown = videomme.contents("short", seed)
        how = (videomme.video.Encoding(), ".mp4", (8, 10))
        for number in range(3):
            videomme.film(world_root, seed, "short", number, shown[number], str(number), how)
    a, b, c = (tmp_path / x for x in "abc")
    assert told(a) == told(b) and all(read(a, n) == read(b, n) for n in told(a))
    assert read(a, "videos/0.mp4") != read(c, "videos/0.mp4")


def test_columns_and_labels_are_those_of_video_mme(world, rows):
    assert list(rows.columns[:11]) == [
        "video_id", "duration", "domain", "sub_category", "url", "videoID", "question_id",
        "task_type", "question", "options", "answer",
    ]  # fmt: skip
    assert set(rows.duration) == {"short", "medium", "long"}
    assert all(
        sub in videomme.DOMAINS[domain]
        for domain, sub in zip(rows.domain, rows.sub_category, strict=True)
    )
    assert len(rows) == 3 * (3 * videomme.PER_SPLIT + 2) and rows.question_id.is_unique
    numbered = rows.video_id + "-" + (rows.groupby("video_id").cumcount() + 1).astype(str)
    assert (rows.question_id == numbered).all()
    assert all([o[0] for o in options] == list("ABCD") for options in rows.options)
    assert all(o[1:3] == ". " and o.endswith(".") for options in rows.options for o in options)
    names = {p.stem for p in (world / "videos").iterdir()}
    assert names == set(rows.videoID) and (rows.groupby("videoID").size() == 3).all()
    assert {p.suffix for p in (world / "videos").iterdir()} == {".mp4", ".MP4", ".mkv"}
    assert {p.stem for p in (world / "subtitle").iterdir()} < names


def test_nothing_but_the_picture_tells_the_answer():
    """Letters, positions and words of right answers are as even as they can be."""
    letters: Counter[str] = Counter()
    right: dict[tuple, Counter[str]] = {}
    for seed in range(4):
        for split in ("short", "medium", "long"):
            shown = videomme.contents(split, seed)
            for part in ("colour", "motion", "texture"):
                counts = Counter(getattr(content, part) for content in shown)
                assert max(counts.values()) - min(counts.values()) <= 1
            named = [(content, f"v{n}") for n, content in enumerate(shown)]
            for row in videomme.question_rows(seed, split, named, 1):
                letters[row["answer"]] += 1
                texts = sorted(o[3:] for o in row["options"])
                answer = row["options"]["ABCD".index(row["answer"])][3:]
                right.setdefault(tuple(texts), Counter())[answer] += 1
    assert max(letters.values()) - min(letters.values()) <= 12
    # Whoever knows only the options gains nothing by picking the usual answer of the others.
    seen = [(max(c.values()), sum(c.values())) for t, c in right.items() if sum(c.values()) > 40]
    assert seen and all(best / n < 0.45 for best, n in seen)


def test_questions_on_a_video_do_not_tell_of_each_other(rows):
    """The options of one question leave the answers of the others of the video open."""
    for _, three in rows.groupby("videoID"):
        first, second, third = three.to_dict("records")
        answer = first["options"]["ABCD".index(first["answer"])].lower()
        motion = next(m for m, said in captions.VERBS.items() if f"{said[0]}." in answer)
        colour = second["options"]["ABCD".index(second["answer"])].split()[2]
        timed = motion in ("left", "right", "appears", "vanishes")
        assert (first["probe"] == "time") == timed
        assert (second["probe"] == "colour") == (colour in ("red", "blue"))
        if third["task_type"] == "Information Synopsis":  # every colour and motion once
            assert len({o.split()[2] for o in third["options"]}) == 4
            assert len({" ".join(o.split()[4:]) for o in third["options"]}) == 4


def test_pairs_shown_were_never_trained_on():
    shown = {
        (c.shape, c.motion) for s in ("short", "medium", "long") for c in videomme.contents(s, 0)
    }
    assert shown and all(viclip_train.held_out(*pair) for pair in shown)
    assert not set(videomme.TINTS) & set(viclip_train.TINTS)
    kept = [m for s in scene.SHAPES for m in scene.MOTIONS if not viclip_train.held_out(s, m)]
    assert set(kept) == set(scene.MOTIONS)  # every motion is trained on, with other shapes


def test_two_videos_are_broken_and_the_rest_plays(world, rows):
    bad = []
    lengths = {}
    for path in sorted((world / "videos").iterdir()):
        rule = {"rule": "uniform_stride", "n": 2}
        sample = decode_one(DecodeRequest(path.stem, str(path), rule=rule), 10**6)
        if sample.status == "ok":
            lengths[path.stem] = sample.info["duration"]
        else:
            bad.append(path.stem)
    splits = rows.drop_duplicates("videoID").set_index("videoID").duration
    assert sorted(splits[name] for name in bad) == ["medium", "short"]
    limits = {"short": (5, 10), "medium": (15.9, 45), "long": (60, 180)}
    for name, seconds in lengths.items():
        low, high = limits[splits[name]]
        assert low - 0.2 <= seconds <= high + 0.2, name


def test_subtitles_are_srt_in_order(world):
    path = sorted((world / "subtitle").iterdir())[0]
    blocks = path.read_text().rstrip("\n").split("\n\n")
    stamps = [block.split("\n")[1] for block in blocks]
    assert [block.split("\n")[0] for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    assert all(" --> " in s and len(s) == 29 for s in stamps)
    assert all(a[17:] <= b[:12] for a, b in pairwise(stamps))
