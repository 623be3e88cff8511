"""Video-MME: parquet to items, prompts, scores, official files and the official command line."""

import ast
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vireo.benchmarks import videomme
from vireo.config import HOME
from vireo.errors import VireoError

GOLDEN = Path(__file__).parents[1] / "golden/videomme"
CHOICES = ["A. One.", "B. Two's.", 'C. "Three".', "D. Four\n."]
BLOCK = {"splits": ["short", "medium", "long"], "partial": True, "primary": "accuracy"}


def question(number: int, which: int, **changes: object) -> dict:
    return {
        "video_id": f"{number:03d}",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Law",
        "url": f"https://www.youtube.com/watch?v=id-{number:03d}",
        "videoID": f"id-{number:03d}",
        "question_id": f"{number:03d}-{which}",
        "task_type": "OCR Problems",
        "question": "What?",
        "options": CHOICES,
        "answer": "ABC"[which - 1],
        **changes,
    }


def rows(videos: int = 3, **changes: object) -> list[dict]:
    lengths = ["short", "medium", "long"]
    return [
        question(n, q, **{"duration": lengths[n % 3], **changes})
        for n in range(videos)
        for q in range(1, 4)
    ]


def save(folder: Path, table: list[dict] | pd.DataFrame) -> dict[str, Path]:
    path = folder / "videomme/test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_parquet(path)
    return {"data": folder}


def predict(items: pd.DataFrame, answers: dict[str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": items["id"],
            "view": 0,
            "group": items["group"],
            "status": ["ok" if answers.get(i) is not None else "undecodable" for i in items["id"]],
            "prediction": [json.dumps(answers.get(i)) for i in items["id"]],
        }
    )


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        CHOICES,
        tuple(CHOICES),
        np.array(CHOICES, dtype=object),
        np.array(CHOICES),
        str(CHOICES),
        json.dumps(CHOICES),
        str(CHOICES).replace("One", "O\x00ne\x00"),
        "\x00" + str(CHOICES) + "\x00\x00",
        str(CHOICES).encode(),
        [CHOICES[0] + "\x00", *CHOICES[1:]],
    ],
)
def test_every_spelling_of_options(spelling):
    assert videomme.options(spelling) == CHOICES


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (str(np.array(["A. x", "B. y", "C. z", "D. w"])), "printed form of a NumPy array"),
        (str(np.array([f"{m}. {'long ' * 20}" for m in "ABCD"])), "printed form of a NumPy array"),
        (CHOICES[:3], "3 options instead of 4"),
        ([*CHOICES, "E. x"], "5 options"),
        ([CHOICES[1], CHOICES[0], *CHOICES[2:]], "does not begin with 'A.'"),
        (["A. x", "B. y", "C. z", "W. w"], "does not begin with 'D.'"),
        (["A. x", "B. y", "C. z", 4], "not text"),
        ("A. x B. y C. z D. w", "not a list of options"),
        ("__import__('os').system('true')", "not a list of options"),
        ("{'A': 1}", "dict"),
        ("[" * 10000, "not a list of options"),
        (None, "NoneType"),
        (float("nan"), "float"),
    ],
)
def test_what_is_not_four_options(value, reason):
    with pytest.raises(ValueError, match=reason):
        videomme.options(value)


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)


@given(st.lists(texts, min_size=4, max_size=4))
@example(["'", '"', "'\"", "\\"])
@example(["', 'B. x", "]", "[", "'] 'B. "])
def test_any_text_survives_every_spelling(parts):
    choices = [f"{mark}. {part}" for mark, part in zip("ABCD", parts, strict=True)]
    for spelling in (choices, np.array(choices, dtype=object), str(choices), json.dumps(choices)):
        assert videomme.options(spelling) == choices


@given(st.lists(texts.map(lambda t: t.replace("\n", " ")), min_size=4, max_size=4))
def test_the_numpy_print_form_is_never_misread(parts):
    choices = [f"{mark}. {part}" for mark, part in zip("ABCD", parts, strict=True)]
    try:
        read = videomme.options(str(np.array(choices, dtype=object)))
    except ValueError:
        return
    assert read == choices


# --- parquet -> items ----------------------------------------------------------------------------


def test_items_keep_the_order_and_every_column(tmp_path):
    table = rows()[::-1]
    items = videomme.items(save(tmp_path, table), BLOCK)
    assert list(items["id"]) == [r["question_id"] for r in table]
    first = items.iloc[0]
    assert (first["split"], first["video"], first["group"]) == ("long", "id-002", "id-002")
    assert first["options"] == CHOICES and first["answer"] == "C" and np.isnan(first["start"])
    assert json.loads(first["meta"]) == {
        "video_id": "002",
        "duration": "long",
        "domain": "Knowledge",
        "sub_category": "Law",
        "task_type": "OCR Problems",
        "url": "https://www.youtube.com/watch?v=id-002",
    }


def test_the_parquet_itself_or_several_parts(tmp_path):
    whole = videomme.items(save(tmp_path, rows()), BLOCK)
    file = tmp_path / "videomme/test-00000-of-00001.parquet"
    assert videomme.items({"data": file}, BLOCK).equals(whole)
    pd.DataFrame(rows()[:4]).to_parquet(file.with_name("test-00000-of-00002.parquet"))
    pd.DataFrame(rows()[4:]).to_parquet(file.with_name("test-00001-of-00002.parquet"))
    file.unlink()
    assert videomme.items({"data": tmp_path}, BLOCK).equals(whole)


def test_older_columns_are_understood(tmp_path):
    table = pd.DataFrame(rows())
    table = table.drop(columns=["video_id", "url"]).assign(
        language="en", Subtitle="so today we are going to " * 50, probe="time"
    )
    table["options"] = [str(o).replace("A", "\x00A") for o in table["options"]]
    items = videomme.items(save(tmp_path, table), BLOCK)
    meta = json.loads(items["meta"][0])
    assert (meta["video_id"], meta["language"], meta["probe"]) == ("000", "en", "time")
    assert "Subtitle" not in meta and items["options"][0] == CHOICES


def test_row_counts(tmp_path):
    sources = save(tmp_path, rows())
    full = {"splits": BLOCK["splits"], "rows": {"short": 3, "medium": 3, "long": 3}}
    assert len(videomme.items(sources, full)) == 9
    wrong = {**full, "rows": {"short": 900, "medium": 900, "long": 3}}
    with pytest.raises(VireoError, match=r"9 rows \(short: 3 of 900, medium: 3 of 900.*partial"):
        videomme.items(sources, wrong)
    assert len(videomme.items(sources, {**wrong, "partial": True})) == 9
    with pytest.raises(VireoError, match="all: 9 of 2544"):
        videomme.items(sources, {**full, "rows": {"all": 2544}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_id": "1-1"}, "question_id '1-1' occurs more than once"),
        ({"videoID": "../../etc/passwd"}, "is not a file name"),
        ({"videoID": "/etc/passwd"}, "is not a file name"),
        ({"videoID": ".."}, "is not a file name"),
        ({"videoID": "a\\b"}, "is not a file name"),
        ({"videoID": ""}, "is not a file name"),
        ({"videoID": "a\nb"}, "is not a file name"),
        ({"domain": "Knowlege"}, "did you mean 'Knowledge'"),
        ({"duration": "shrot"}, "did you mean 'short'"),
        ({"task_type": "OCR"}, "unknown task_type 'OCR'"),
        ({"answer": "E"}, "unknown answer 'E'"),
        ({"question": None}, "row 0 has no question"),
        ({"options": "['A. x' 'B. y' 'C. z' 'D. w']"}, "options: printed form of a NumPy array"),
    ],
)
def test_wrong_content_is_named(tmp_path, changes, message):
    with pytest.raises(VireoError, match=message) as error:
        videomme.items(save(tmp_path, rows(**changes)), BLOCK)
    assert "test-00000-of-00001.parquet" in str(error.value)


def test_questions_that_disagree_about_their_video(tmp_path):
    table = rows(1)
    table[1]["sub_category"] = "Geography"
    with pytest.raises(VireoError, match="video_id '000' disagree"):
        videomme.items(save(tmp_path, table), BLOCK)


def test_files_that_are_no_annotations(tmp_path):
    with pytest.raises(VireoError, match=r"no test-\*.parquet below"):
        videomme.items({"data": tmp_path}, BLOCK)
    save(tmp_path, pd.DataFrame(rows()).iloc[:0])
    with pytest.raises(VireoError, match="no rows"):
        videomme.items({"data": tmp_path}, BLOCK)
    save(tmp_path, pd.DataFrame(rows()).drop(columns=["answer", "options"]))
    with pytest.raises(VireoError, match="no column options, answer"):
        videomme.items({"data": tmp_path}, BLOCK)
    path = tmp_path / "videomme/test-00000-of-00001.parquet"
    for content in (b"", path.read_bytes()[:200], b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(content)
        with pytest.raises(VireoError, match="not a readable parquet"):
            videomme.items({"data": tmp_path}, BLOCK)
    save(tmp_path / "copy1", rows())
    save(tmp_path / "copy2", rows())
    with pytest.raises(VireoError, match="several test parquets"):
        videomme.items({"data": tmp_path}, BLOCK)


# --- videos --------------------------------------------------------------------------------------


def touch(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_videos_in_both_layouts(tmp_path, caplog):
    items = videomme.items(save(tmp_path, rows(6)), BLOCK)
    touch(tmp_path / "videos/id-000.mp4")
    touch(tmp_path / "videos/part_2/id-001.MP4")
    touch(tmp_path / "id-002.mkv")
    touch(tmp_path / "subtitle/id-000.srt")
    touch(tmp_path / "output/id-003/frames/id-003_mp4_frame_00:01.jpg")
    touch(tmp_path / "output/id-003/subtitles.txt")
    touch(tmp_path / "output/id-003/id-003.json")
    touch(tmp_path / "output/id-004/subtitles.txt")
    touch(tmp_path / "videos/id-005.mp4.part")
    with caplog.at_level("INFO", logger="vireo"):
        found = videomme.videos({"data": tmp_path}, items, BLOCK).set_index("video")
    assert list(found.index) == [f"id-{n:03d}" for n in range(6)]
    assert list(found["status"]) == ["found"] * 4 + ["missing"] * 2
    assert list(found["kind"])[:4] == ["file", "file", "file", "jpegs"]
    assert list(found.index[found["subtitles"]]) == ["id-000", "id-003"]
    assert found["path"]["id-001"] == str(tmp_path / "videos/part_2/id-001.MP4")
    assert "subtitles of 2 of 6 videos" in caplog.text


def test_videos_in_a_second_folder(tmp_path):
    items = videomme.items(save(tmp_path / "a", rows(3)), BLOCK)
    touch(tmp_path / "a/id-000.mp4", b"first")
    touch(tmp_path / "b/id-000.mp4")
    touch(tmp_path / "b/id-001.mp4", b"22")
    touch(tmp_path / "b/id-001.srt")
    sources = {"annotations": tmp_path / "a", "videos": tmp_path / "b"}
    found = videomme.videos(sources, items, BLOCK).set_index("video")
    assert list(found["status"]) == ["found", "found", "missing"]
    assert found["path"]["id-000"] == str(tmp_path / "a/id-000.mp4")
    assert list(found["size"]) == [5, 2, 0] and found["size"].dtype == "int64"
    assert list(found["subtitles"]) == [False, True, False]


# --- prompts, scores, official files -------------------------------------------------------------


@pytest.fixture
def items(tmp_path) -> pd.DataFrame:
    return videomme.items(save(tmp_path, rows(4)), BLOCK)


def test_prompts_and_their_switches(items):
    first = items["id"][0]
    assert videomme.prompts(items, {})[first] == CHOICES
    bare = videomme.prompts(items, {"prompt": {"letter_prefix": False}})[first]
    assert bare == [c[3:] for c in CHOICES]
    both = {"prompt": {"letter_prefix": True, "question_in_text": True}}
    assert videomme.prompts(items, both)[first][0] == "What? A. One."


def test_accuracies_and_breakdowns(items):
    answers = {i: CHOICES[0] for i in items["id"] if not i.startswith("003")}  # 003 failed
    answers["000-2"] = "no idea"
    scores = videomme.score(items, predict(items, answers), {**BLOCK, "chance": 25.0})
    official, everything = scores.metrics["accuracy"], scores.metrics["accuracy_all"]
    assert (official.n, official.value) == (8, pytest.approx(100 * 3 / 8))
    assert (everything.n, everything.value) == (12, pytest.approx(100 * 3 / 12))
    assert official.contributions.mean() == official.value
    assert (official.unit, official.low, official.high) == ("%", 0.0, 100.0)
    assert list(scores.breakdowns) == ["duration", "domain", "sub_category", "task_type"]
    duration = scores.breakdowns["duration"].set_index("label")
    assert list(duration.index) == ["short", "medium", "long"]
    assert list(duration["items"]) == [6, 3, 3] and list(duration["n"]) == [2, 3, 3]
    assert duration.loc["short", "value"] == 50
    assert duration.loc["short", "accuracy_all"] == pytest.approx(100 / 6)
    assert "4 of 12 questions are unanswered: 3 without prediction, 1 without" in scores.notes[0]
    assert "short 2, medium 1, long 1" in scores.notes[1] and "skip_missing" in scores.notes[1]
    assert "Evaluation on video Type: medium" in scores.printout


def test_score_by_index_and_by_text_agree(items):
    by_text = predict(items, dict.fromkeys(items["id"], CHOICES[1]))
    by_index = by_text.assign(prediction="1")
    a, b = (videomme.score(items, p, BLOCK) for p in (by_text, by_index))
    assert a.printout == b.printout and a.metrics["accuracy"].value == pytest.approx(100 / 3)
    with pytest.raises(VireoError, match="no option number 4"):
        videomme.score(items, by_text.assign(prediction="4"), BLOCK)
    with pytest.raises(VireoError, match="no option number and no text"):
        videomme.score(items, by_text.assign(prediction="{}"), BLOCK)


def test_probes_get_a_breakdown(tmp_path):
    table = rows()
    for n, row in enumerate(table):
        row["probe"] = ["time", "colour", None][n % 3]
    items = videomme.items(save(tmp_path, table), BLOCK)
    scores = videomme.score(items, predict(items, dict.fromkeys(items["id"], CHOICES[0])), BLOCK)
    probe = scores.breakdowns["probe"].set_index("label")
    assert dict(probe["n"]) == {"colour": 3, "time": 3}
    assert dict(probe["value"]) == {"colour": 0, "time": 100}


def test_official_files(items, tmp_path):
    answers = {i: CHOICES[2] for i in items["id"] if not i.startswith("001")}
    del answers["000-1"]  # one question of a video: the video is not missing
    out = tmp_path / "out"
    paths = videomme.export(items, predict(items, answers), out, {**BLOCK, "model": "viclip"})
    assert [p.name for p in paths] == ["viclip_predictions.json", "viclip_output_test.json"]
    flat, grouped = (json.loads(p.read_text()) for p in paths)
    assert [q["question_id"] for q in flat] == list(items["id"])
    assert flat[1]["response"] == CHOICES[2] and flat[0]["response"] == ""
    assert flat[0] == {
        **{k: v for k, v in question(0, 1).items() if k != "video_id"},
        "video_id": "id-000",
        "response": "",
    }
    assert [v["video_id"] for v in grouped] == ["000", "001", "002", "003"]
    assert [v["missing"] for v in grouped] == [False, True, False, False]
    assert list(grouped[0]) == [
        *("video_id", "duration", "domain", "sub_category", "missing", "questions")
    ]
    assert grouped[0]["questions"][0] == {
        k: question(0, 1)[k] for k in ("question_id", "task_type", "question", "options", "answer")
    } | {"response": ""}


# --- the official command line -------------------------------------------------------------------


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HOME / "scripts/evaluate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("full") / "results_full.json"
    path.write_bytes(gzip.decompress((GOLDEN / "results_full.json.gz").read_bytes()))
    return path


def test_drop_in_for_the_official_script(full):
    expected = json.loads((GOLDEN / "expected.json").read_text())
    run = expected["runs"]["short_cat_task"]
    done = evaluate("videomme", "--results_file", str(full), *run["args"])
    assert done.returncode == run["rc"], done.stderr
    assert done.stdout == (GOLDEN / "stdout_short_cat_task.txt").read_text()
    assert "all questions: 425 of 900 = 47.2%, 132 unanswered" in done.stderr


def run_evaluate(path: Path, arguments: list[str]) -> str:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    videomme.add_arguments(parser)
    return videomme.evaluate(parser.parse_args(["--results_file", str(path), *arguments]))


@pytest.mark.parametrize("name", ["all_flags", "short_cat_task", "no_flags", "order"])
def test_every_recorded_run(full, name):
    run = json.loads((GOLDEN / "expected.json").read_text())["runs"][name]
    assert run_evaluate(full, run["args"]) == (GOLDEN / f"stdout_{name}.txt").read_text()


@pytest.mark.parametrize("name", ["partial_cli", "space_after_comma", "bracket_list", "typo"])
def test_every_recorded_error(full, tmp_path, name):
    run = json.loads((GOLDEN / "expected.json").read_text())["errors"][name]
    path = full
    if name == "partial_cli":
        path = tmp_path / "partial.json"
        path.write_bytes(gzip.decompress((GOLDEN / "results_partial.json.gz").read_bytes()))
    with pytest.raises(VireoError, match="not 300"):
        run_evaluate(path, run["args"])
    if name == "partial_cli":
        flags = ["--return_categories_accuracy", "--return_sub_categories_accuracy"]
        flags += ["--return_task_types_accuracy", "--skip_missing"]
        printed = run_evaluate(path, ["--video_duration_type", "short,medium,long", *flags])
        assert printed == (GOLDEN / "stdout_partial_skip_missing.txt").read_text()


def test_errors_of_the_command_line(tmp_path, vireo):
    wrong = ["--results_file", "x", "--video_duration_type", "short"]
    done = vireo("evaluate", "videome", *wrong)
    assert done.returncode == 1 and "did you mean 'videomme'" in done.stderr
    done = vireo("evaluate", "videomme", *wrong)
    assert done.returncode == 1 and "x" in done.stderr
    assert vireo("evaluate").returncode == vireo("evaluate", "videomme").returncode == 2
    done = vireo("evaluate", "videomme", "--help")
    assert done.returncode == 0 and "vireo evaluate videomme" in done.stdout
    assert "--video_duration_type" in done.stdout
    bad = tmp_path / "template.json"
    bad.write_text('[{"video_id": "001",}]')
    with pytest.raises(VireoError, match="not valid JSON"):
        run_evaluate(bad, ["--video_duration_type", "short"])
    bad.write_text('{"video_id": "001"}')
    with pytest.raises(VireoError, match="not a list"):
        run_evaluate(bad, ["--video_duration_type", "short"])


def test_exported_file_scores_like_the_run_itself(items, tmp_path):
    answers = {i: CHOICES[len(i) % 3] for i in items["id"] if not i.startswith("002")}
    predictions = predict(items, answers)
    _, path = videomme.export(items, predictions, tmp_path / "out", BLOCK)
    flags = ["--return_categories_accuracy", "--return_sub_categories_accuracy"]
    flags += ["--return_task_types_accuracy", "--skip_missing"]
    printed = run_evaluate(path, ["--video_duration_type", "short,medium,long", *flags])
    assert printed == videomme.score(items, predictions, BLOCK).printout


def test_the_flat_file_is_not_scored_as_if_it_were_grouped(items, tmp_path):
    path, _ = videomme.export(items, predict(items, {}), tmp_path / "out", BLOCK)
    with pytest.raises(VireoError, match="flat list of questions; give the grouped file"):
        run_evaluate(path, ["--video_duration_type", "short", "--skip_missing"])


def test_literal_evaluation_only():
    assert ast.literal_eval("['A']") == ["A"]
    with pytest.raises(ValueError):
        videomme.options("[open('/etc/passwd').read(), 'B.', 'C.', 'D.']")
