"""Receipts: files that are no longer what they were, and projects that are copied."""

import os
import shutil
from pathlib import Path

import pytest

from vireo.fetch import receipt
from vireo.fetch.artifact import fetch
from vireo.workflow import cleanup

BLOCK = {"files": [], "sources": [], "wants": []}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory with a checkpoint that `paths` names, and its receipt."""
    (tmp_path / "one/ck").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    Path("ck/my.safetensors").write_bytes(b"weights of monday")
    take()
    return tmp_path / "one"


def take() -> dict:
    config = {"paths": {"mine": "ck/my.safetensors"}}
    return fetch("mine", BLOCK, config, "data/receipts/mine.json")


def test_an_own_checkpoint_replaced_at_its_path_is_noticed(project) -> None:
    weights, path = Path("ck/my.safetensors"), Path("data/receipts/mine.json")
    assert receipt.changed(path) is None and cleanup.quarantine_changed() == []
    before = receipt.hash_of(weights)
    weights.write_bytes(b"weights of friday")  # of the same size
    assert receipt.hash_of(weights) != before
    assert "another content" in str(receipt.changed(path))
    assert [str(p) for p in cleanup.quarantine_changed()] == [str(path)]
    assert not path.exists()  # rule fetch looks at the file again, what reads it runs again
    assert take()["files"]["my.safetensors"]["sha256"] == receipt.hash_of(weights)
    weights.write_bytes(b"longer weights of friday")
    assert "has 24 bytes, it had 17" in str(receipt.changed(path))


def test_a_file_with_the_size_and_time_of_another_is_noticed(project) -> None:
    weights = Path("ck/my.safetensors")
    seen = weights.stat()
    other = Path("ck/other")
    other.write_bytes(b"weights of sunday")
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    os.replace(other, weights)
    assert "another content" in str(receipt.changed("data/receipts/mine.json"))


def test_a_touched_file_is_read_once_and_stays(project, monkeypatch) -> None:
    os.utime("ck/my.safetensors", (1, 1))
    assert receipt.changed("data/receipts/mine.json") is None
    monkeypatch.setattr(receipt.files, "sha256", lambda path: pytest.fail("read again"))
    assert receipt.changed("data/receipts/mine.json") is None


def test_nothing_is_read_when_the_hashes_are_gone_and_times_are_equal(project, monkeypatch) -> None:
    receipt.HASHES.unlink()
    monkeypatch.setattr(receipt.files, "sha256", lambda path: pytest.fail("read again"))
    assert receipt.changed("data/receipts/mine.json") is None


def test_absent_files_and_damaged_receipts_are_left_to_their_readers(project) -> None:
    os.rename("ck/my.safetensors", "ck/away")
    assert cleanup.quarantine_changed() == []
    Path("data/receipts/mine.json").write_text('{"root": 3}')
    assert cleanup.quarantine_changed() == []


def test_a_copied_project_reads_its_own_files(project, monkeypatch) -> None:
    """Receipts used to hold absolute paths, so that a copy went on reading the old folder."""
    assert receipt.read("data/receipts/mine.json")["root"] == "ck"
    shutil.copytree(project, project.parent / "two")
    monkeypatch.chdir(project.parent / "two")
    (project.parent / "one/ck/my.safetensors").write_bytes(b"changed in the old")
    read = receipt.only_file("data/receipts/mine.json")
    assert read.resolve() == (project.parent / "two/ck/my.safetensors")
    assert read.read_bytes() == b"weights of monday"


def test_an_older_receipt_of_a_download_means_the_copy_too(tmp_path, monkeypatch) -> None:
    for name in ("old", "new"):
        folder = tmp_path / name / "data/thing"
        folder.mkdir(parents=True)
        (folder / "w.pth").write_text(name)
    monkeypatch.chdir(tmp_path / "new")
    then = {"artifact": "thing", "root": str(tmp_path / "old/data/thing"), "source": "hf"}
    listed = {"files": {"w.pth": {"size": 3, "sha256": None}}}
    receipt.files.write_json("data/receipts/thing.json", {**then, **listed})
    assert receipt.only_file("data/receipts/thing.json").read_text() == "new"
    own = {**then, **listed, "source": "own folder"}
    receipt.files.write_json("data/receipts/thing.json", own)
    assert receipt.only_file("data/receipts/thing.json").read_text() == "old"


def test_roots_outside_stay_absolute(project, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    made = receipt.write("data/receipts/x.json", "x", outside, {}, "own folder")
    assert made["root"] == str(outside)
