"""The tokenizer against ids recorded from the reference."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.nn.tokenizer import END, START, Tokenizer

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "viclip" / "tokenizer.json").read_text()
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(GOLDEN["context_length"])


def test_every_recorded_string(tokenizer):
    texts = [case["text"] for case in GOLDEN["cases"]]
    rows = tokenizer(texts).tolist()
    expected = [case["ids"] for case in GOLDEN["cases"]]
    assert [t for t, row, ids in zip(texts, rows, expected, strict=True) if row != ids] == []


def test_special_strings_are_the_reference_ones(tokenizer):
    assert tokenizer.encode("<|startoftext|> <|ENDOFTEXT|>") == [START, END]
    assert START not in tokenizer.encode("<start_of_text>")
    assert END not in tokenizer.encode("<end_of_text>")


def test_long_texts_are_cut_and_counted():
    tokenizer = Tokenizer(8)
    rows = tokenizer(["a dog", "a " * 7, "a " * 6, ""])
    assert tokenizer.truncated == 1
    assert rows[1].tolist() == [START, *[320] * 6, END]
    assert rows[2].tolist() == rows[1].tolist()
    assert rows[3].tolist() == [START, END, *[0] * 6]


@given(st.lists(st.text(), max_size=3))
def test_any_text_gives_rows_of_one_length_with_an_end(tokenizer, texts):
    rows = tokenizer(texts)
    assert rows.shape == (len(texts), 32)
    for row in rows.tolist():
        assert row[0] == START
        assert END in row
