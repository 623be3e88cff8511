"""Lists as they are downloaded: which file is read, every published form, names on the disk."""

import json
from pathlib import Path

import pytest

from vireo import config as configuration
from vireo.benchmarks import kinetics, qvhighlights, retrieval
from vireo.benchmarks.annotations import lists
from vireo.errors import VireoError
from vireo.fetch import artifact, receipt

HEAD = "label,youtube_id,time_start,time_end,split\n"
K2020 = HEAD + "testifying,---QUuC4vJs,84,94,validate\nwashing feet,--GkrdYZ9Tc,0,10,validate\n"
K2019 = HEAD + "waxing eyebrows,-1eG3Pu46WU,0,10,validate\n"
JSFUSION = (
    "key,vid_key,video_id,sentence\n"
    "ret0,msr9770,video9770,a person is connecting something to system\n"
    "ret1,msr9771,video9771,a little girl does gymnastics\n"
)
MSRVTT = {
    "videos": [{"video_id": "video9770", "split": "test", "id": 9770, "url": "u"}],
    "sentences": [{"caption": "a person connects", "video_id": "video9770", "sen_id": 1}],
}


def options(name: str) -> dict:
    """Options of a real benchmark, without the sizes that a cut list cannot have."""
    block = configuration.benchmark(configuration.load(), name)
    left_out = ("sizes", "texts", "classes")
    return {k: v for k, v in block["options"].items() if k not in left_out}


# Which file


def test_the_named_file_is_read_not_its_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`paths: {kinetics700_2020_annotations: …/kinetics700_2020_val.csv}` beside the 2019 list."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/kinetics700_2019_val.csv").write_text(K2019)
    named = tmp_path / "own/kinetics700_2020_val.csv"
    named.write_text(K2020)
    block = {"wants": [{"what": "list", "any": ["**/*.csv"]}]}
    artifact.fetch("k", block, {"paths": {"k": str(named)}}, "data/receipts/k.json")
    assert receipt.place("data/receipts/k.json").samefile(named)
    found = kinetics.items({"annotations": receipt.place("data/receipts/k.json")}, {})
    assert sorted(found["answer"]) == ["testifying", "washing feet"]
    with pytest.raises(VireoError, match=r"several files may be .*2019_val\.csv.*2020_val\.csv"):
        kinetics.items({"annotations": tmp_path / "own"}, {})
    with pytest.raises(VireoError, match="list of release 2020, this benchmark is release 2019"):
        kinetics.items({"annotations": named}, {"options": options("k700_2019")})


def test_equal_copies_and_documented_names_are_no_doubt(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "x.json").write_text("[]")
    (tmp_path / "a/x.json").write_text("[]")
    assert lists.chosen(tmp_path, [], ["*.json"], "list") == tmp_path / "x.json"
    (tmp_path / "a/y.json").write_text("[1]")
    with pytest.raises(VireoError, match="several files"):
        lists.chosen(tmp_path, [], ["*.json"], "list")
    assert lists.chosen(tmp_path, ["y.json"], ["*.json"], "list") == tmp_path / "a/y.json"


# Forms


def made(tmp_path: Path, name: str, files: dict[str, str], **more: object):
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    table = retrieval.items({"annotations": tmp_path}, {"options": {**options(name), **more}})
    return dict(zip(table["id"], map(list, table["options"]), strict=True))


def test_the_archive_of_msrvtt_gives_the_1k_list(tmp_path: Path) -> None:
    files = {
        "msrvtt_data/MSRVTT_JSFUSION_test.csv": JSFUSION,
        "msrvtt_data/MSRVTT_data.json": json.dumps(MSRVTT),
        "msrvtt_data/MSRVTT_train.9k.csv": "video_id\nvideo0\n",
        "msrvtt_data/MSRVTT_train.7k.csv": "video_id\nvideo0\n",
    }
    assert made(tmp_path, "msrvtt", files) == {
        "video9770": ["a person is connecting something to system"],
        "video9771": ["a little girl does gymnastics"],
    }
    assert made(tmp_path, "msrvtt", {}, list="MSRVTT_data.json") == {
        "video9770": ["a person connects"]
    }


@pytest.mark.parametrize(
    ("benchmark", "name", "text", "expected"),
    [
        ("msrvtt", "t.csv", JSFUSION.replace(",", ";"), "a little girl does gymnastics"),
        (
            "msrvtt",
            "msrvtt_test.jsonl",
            '{"clip_name": "video9770", "caption": "x", "sen_id": 1}\n'
            '{"clip_name": "video9771", "caption": "girl", "sen_id": 2}\n',
            "girl",
        ),
        ("msrvtt", "t.json", '[{"clip_name": "video9771", "sentence": "one"}]', "one"),
        (
            "didemo",
            "test_data.json",
            '[{"video": "v.mov", "description": "a dog", "times": [[0, 0]]},'
            ' {"video": "v.mov", "description": "it runs", "times": [[1, 1]]}]',
            "it runs",
        ),
        (
            "activitynet",
            "val_1.json",
            '{"v_a1": {"duration": 9.5, "timestamps": [[0, 4]], "sentences": [" A man. "]}}',
            "A man.",
        ),
        (
            "lsmdc",
            "LSMDC16_challenge_1000_publictect.csv",
            "0001_Film_00.00.01.000-00.00.03.500\t00.00.01.000\t00.00.03.500\t00.00.01.000"
            "\t00.00.03.500\tSOMEONE cooks, slowly.\n",
            "SOMEONE cooks, slowly.",
        ),
    ],
)
def test_published_forms(
    tmp_path: Path, benchmark: str, name: str, text: str, expected: str
) -> None:
    assert list(made(tmp_path, benchmark, {name: text}).values())[-1][-1] == expected


def test_names_with_dots_are_whole(tmp_path: Path) -> None:
    text = "0001_F_00.00.01.000-00.00.03.500" + "\t1.0" * 4 + "\tx\n"
    assert list(made(tmp_path, "lsmdc", {"a.csv": text})) == ["0001_F_00.00.01.000-00.00.03.500"]
    turn = {"role": "user", "content": "x", "time": 0}
    entry = {"question_id": 1, "video": "qvh/videos/ab_210.0_360.0", "conversation": [turn]}
    (tmp_path / "q.json").write_text(json.dumps([entry]))
    (tmp_path / "r.jsonl").write_text('{"qid": 1}\n')
    block = {"splits": ["val"], "options": {"file": "q.json", "release": "r.jsonl"}}
    assert qvhighlights.items({"a": tmp_path}, block)["video"].tolist() == ["ab_210.0_360.0"]


def test_captions_of_msvd_and_their_list(tmp_path: Path) -> None:
    files = {
        "AllVideoDescriptions.txt": "# comment\na_1_2 a cat\nb_3_4 a dog\na_1_2 a kitten, asleep\n",
        "test_list.txt": "a_1_2\n",
        "train_list.txt": "b_3_4\n",
    }
    assert made(tmp_path, "msvd", files) == {"a_1_2": ["a cat", "a kitten, asleep"]}
    (tmp_path / "raw-captions.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(VireoError, match="is a pickle"):
        made(tmp_path, "msvd", {}, list="raw-captions.pkl")
    (tmp_path / "test_list.txt").write_text("c_5_6\n")
    with pytest.raises(VireoError, match="'c_5_6' has no caption"):
        made(tmp_path, "msvd", {})


def test_sizes_of_the_published_sets_are_asked_for() -> None:
    config = configuration.load()
    sizes = {
        name: (configuration.benchmark(config, name)["options"]["sizes"],
               configuration.benchmark(config, name)["options"].get("texts"))
        for name in ("msrvtt", "didemo", "activitynet", "lsmdc", "msvd")
    }  # fmt: skip
    assert sizes == {
        "msrvtt": ([1000], 1000),
        "didemo": ([1003, 1004], None),
        "activitynet": ([4917], 17505),
        "lsmdc": ([1000], 1000),
        "msvd": ([670], 27763),
    }


# Names on the disk

DIDEMO = (
    "10015567@N08_3655084291_d8b58466fa.mov",
    "12644997@N04_5019157514_2789cc8573.3gp",
    "33439178@N00_10001768095_65d489443c.mts",
    "31667813@N00_3159450613_4a463646e0.3g2",
    "10052357@N03_7585070382_5762149bfc.",
)


@pytest.mark.parametrize("listed", ["", ".mp4"])
@pytest.mark.parametrize("stored", ["", ".mp4"])
def test_didemos_real_names_are_found(tmp_path: Path, listed: str, stored: str) -> None:
    (tmp_path / "list").mkdir()
    (tmp_path / "videos/deep").mkdir(parents=True)
    entries = [{"video": name + listed, "caption": "a dog runs."} for name in DIDEMO]
    (tmp_path / "list/test.json").write_text(json.dumps(entries))
    for name in DIDEMO:
        (tmp_path / "videos/deep" / (name + stored)).write_bytes(b"x")
    sources = {"annotations": tmp_path / "list", "videos": tmp_path / "videos"}
    items = retrieval.items(sources, {})
    found = retrieval.videos(sources, items, {})
    assert found["status"].tolist() == ["found"] * 5
    assert [Path(path).name for path in found["path"]] == [name + stored for name in DIDEMO]


def test_a_name_that_may_be_two_videos_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(
        '[{"video": "a.mov.mp4", "caption": "x"}, {"video": "a.avi.mp4", "caption": "y"}]'
    )
    (tmp_path / "v").mkdir()
    (tmp_path / "v/a.mp4").write_bytes(b"x")
    sources = {"annotations": tmp_path / "l.json", "videos": tmp_path / "v"}
    items = retrieval.items(sources, {})
    assert retrieval.videos(sources, items, {})["status"].tolist() == ["missing"] * 2


# Kinetics lists


def test_the_list_that_was_read_is_named() -> None:
    from vireo.benchmarks.annotations.kinetics_items import list_note

    k400 = options("k400")
    assert "19906 clips: older list" in list_note(19906, k400)
    assert "18009 clips: validate.csv of DeepMind" in list_note(18009, k400)
    assert "none of the known ones (19906, 18009)" in list_note(19404, k400)
    assert options("k400_ft")["lists"] == k400["lists"]
    assert {one["rows"] for one in options("k600")["lists"]} == {30000, 28267}


def test_clips_that_the_list_has_not_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The older list's clips with the pruned list: 2 of 4 files belong to no row."""
    (tmp_path / "validate.csv").write_text(HEAD + "abseiling,0wR5jVB-WPk,417,427,validate\n")
    (tmp_path / "v").mkdir()
    names = ("0wR5jVB-WPk_000417_000427", "7LSJ2Ryv1a8_000000_000010", "GUO-poN9EdQ_000019_000029")
    for name in names:
        (tmp_path / "v" / f"{name}.mp4").write_bytes(b"x")
    sources = {"annotations": tmp_path / "validate.csv", "videos": tmp_path / "v"}
    items = kinetics.items(sources, {})
    table = kinetics.videos(sources, items, {})
    assert table["status"].tolist() == ["found"] and set(table["unlisted"]) == {2}
    assert "2 clips in the folder are in no row of the list" in caplog.text
