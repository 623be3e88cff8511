"""The official Video-MME scorer, against what the official script printed."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.benchmarks.videomme import LABELS
from vireo.errors import VireoError
from vireo.metrics import mcq

GOLDEN = Path(__file__).parents[1] / "golden/videomme"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def results(name: str) -> list[dict]:
    return json.loads(gzip.decompress((GOLDEN / f"results_{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def full() -> list[dict]:
    return results("full")


def tiny(response: object = "B", **changes: object) -> list[dict]:
    question = {"question_id": "001-1", "task_type": "OCR Problems", "answer": "B"}
    video = {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Law"}
    video = {**video, "missing": False, "questions": [{**question, "response": response}]}
    return [{**video, **changes}]


@pytest.mark.parametrize(
    ("response", "expected"), json.loads((GOLDEN / "extraction.json").read_text())
)
def test_letters_as_the_official_script_reads_them(response, expected):
    assert mcq.letter(response) == expected


def test_exact_counts(full):
    for duration, counts in mcq.count(full, ["short", "medium", "long"], LABELS):
        wanted = EXPECTED["exact_counts"][duration]
        for kind in LABELS:
            seen = {name: [b.correct, b.answered] for name, b in counts[kind].items()}
            assert seen == wanted[kind]
        both = mcq.overall(counts)
        assert [both.correct, both.answered] == wanted["overall"][:2]


@pytest.mark.parametrize(
    ("durations", "show", "file"),
    [
        (["short", "medium", "long"], tuple(mcq.TITLES), "all_flags"),
        (["short"], ("domain", "task_type"), "short_cat_task"),
        (["medium", "long"], (), "no_flags"),
        (["long", "short"], ("domain",), "order"),
    ],
)
def test_printout_byte_for_byte(full, durations, show, file):
    printed = mcq.printout(mcq.count(full, durations, LABELS), show)
    assert printed == (GOLDEN / f"stdout_{file}.txt").read_text()


def test_partial_file_with_skip_missing():
    counted = mcq.count(results("partial"), ["short", "medium", "long"], LABELS, skip_missing=True)
    expected = (GOLDEN / "stdout_partial_skip_missing.txt").read_text()
    assert mcq.printout(counted) == expected


def test_missing_videos_of_a_complete_file_can_be_left_out(full):
    kept = [v for v in full if not v["missing"]]
    counted = mcq.count(full, ["short"], LABELS, skip_missing=True)
    assert counted == mcq.count(kept, ["short"], LABELS, skip_missing=True)
    assert counted != mcq.count(full, ["short"], LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"response": None}, "response is None; it must be text"),
        ({"response": ["B"]}, "must be text"),
        ({"domain": "Knowlege"}, "did you mean 'Knowledge'"),
        ({"sub_category": "Laws"}, "did you mean 'Law'"),
        ({"questions": [{"question_id": "001-1", "answer": "B"}]}, "no key 'response'"),
        ({"questions": [{"response": "B", "answer": "B"}]}, "no key 'task_type'"),
    ],
)
def test_what_breaks_the_official_script_is_a_clear_error(changes, message):
    with pytest.raises(VireoError, match=message) as error:
        mcq.count(tiny(**changes), ["short"], LABELS, skip_missing=True, source="r.json")
    assert "r.json" in str(error.value) and "001" in str(error.value)


def test_unknown_label_without_a_letter_is_no_error_as_in_the_official_script():
    counted = mcq.count(tiny("", domain="?"), ["short"], LABELS, skip_missing=True)
    assert mcq.overall(counted[0][1]) == mcq.Bucket(0, 0)
    assert "Overall:  0.0%" in mcq.printout(counted)


def test_video_without_the_missing_key():
    videos = tiny()
    del videos[0]["missing"]
    with pytest.raises(VireoError, match=r"every video needs `missing"):
        mcq.count(videos, ["short"], LABELS, skip_missing=True)


@pytest.mark.parametrize(
    ("duration", "hint"),
    [
        (" medium", "without blanks"),
        ('["short"', "without blanks, quotes or brackets"),
        ("shrot", "did you mean 'short'"),
        ("short", "--skip_missing"),
    ],
)
def test_number_of_videos(duration, hint):
    with pytest.raises(VireoError, match=hint):
        mcq.count(tiny(), [duration], LABELS)


@given(st.text(alphabet="ABCDEabcd. Theanswrisbtopncou:", max_size=60))
def test_letter_is_a_capital_of_the_response(response):
    found = mcq.letter(response)
    assert found in ("", "A", "B", "C", "D")
    assert found in response
    if not found:
        rest = response
        for phrase in mcq.DELETED:
            rest = rest.replace(phrase, "")
        assert not set("ABCD") & set(rest)
