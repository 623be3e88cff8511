"""Secrets go, everything else stays."""

import pytest

from vireo.utils.redact import redact


@pytest.mark.parametrize(
    "text",
    [
        "https://me:s3cr3tvalue@host/x",
        "https://s3cr3tvalue@host/x",
        "https://host/x?a=1&token=s3cr3tvalue&b=2",
        "https://host/x?X-Amz-Signature=s3cr3tvalue",
        "Authorization: Bearer s3cr3tvalue==",
        "{'authorization': 'Basic s3cr3tvalue=='}",
        "bearer s3cr3tvalue",
        "token=s3cr3tvalue",
        "hf_s3cr3tvalue in a sentence",
    ],
)
def test_hidden(text):
    hidden = redact(text)
    assert "s3cr3tvalue" not in hidden and "***" in hidden


def test_values_of_secret_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_API_KEY", "plantedvalue")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false_or_true")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path))
    assert redact("a plantedvalue b false_or_true") == "a *** b false_or_true"
    assert redact(tmp_path) == str(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/a/b?name=x&download=1",
        "basic installation of the tokenizer",
        "token embeddings have another shape",
        "user@host and a@b.c",
        "positional_embedding: expected [8, 768]",
    ],
)
def test_left_alone(text):
    assert redact(text) == text
