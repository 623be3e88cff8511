"""docs/mistakes.md: each of the ten mistakes is made here, and the message is the one quoted."""

import re
import sys
import threading
import zipfile
from types import SimpleNamespace

import pytest

from tests.fetch.conftest import Server
from vireo import config as cfg
from vireo.doctor import checks, machine
from vireo.errors import VireoError

QUOTES = re.findall(
    r"^### (\d+)\. .*?\n\n> (.*?)$",
    (cfg.HOME / "docs/mistakes.md").read_text(encoding="utf-8"), re.M | re.S,
)  # fmt: skip


def quoted(number: int) -> str:
    return dict(QUOTES)[str(number)]


def test_there_are_ten() -> None:
    assert [int(number) for number, _ in QUOTES] == list(range(1, 11))


def test_1_a_path_that_does_not_exist() -> None:
    from vireo.fetch import local

    with pytest.raises(VireoError) as caught:
        local.use_own("videomme", cfg.artifact(cfg.load(), "videomme"), "/datasets/VideoMMM")
    assert quoted(1) == str(caught.value)


def test_2_no_token(tmp_path, monkeypatch) -> None:
    """A server that behaves like the Hub for a gated repository."""
    from huggingface_hub import errors

    from vireo.fetch import http, hub

    def gated(*arguments, **keywords):
        response = SimpleNamespace(headers={}, status_code=401, request=None, text="", url="")
        raise errors.GatedRepoError("gated", response=response)

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", gated)
    with pytest.raises(http.Denied) as caught:
        hub.look_up("some/gated", "model", "main")
    assert quoted(2) == str(caught.value)


def test_3_an_unknown_name() -> None:
    with pytest.raises(VireoError) as caught:
        cfg.model(cfg.load(), "vicilp")
    assert quoted(3) in str(caught.value)


def test_4_half_an_archive(tmp_path) -> None:
    from vireo.fetch import archive

    whole = tmp_path / "videos.zip"
    with zipfile.ZipFile(whole, "w") as out:
        out.writestr("a.mp4", b"x" * 4000)
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(VireoError) as caught:
        archive.extract(whole, tmp_path / "out")
    assert quoted(4) in str(caught.value) and str(whole) in str(caught.value)


def test_5_no_gpu(monkeypatch) -> None:
    import torch

    from vireo.utils import device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VireoError) as caught:
        device.resolve_device("cuda")
    assert quoted(5) == str(caught.value)


def test_6_no_java(monkeypatch) -> None:
    from vireo.metrics import coco

    monkeypatch.setattr(coco.shutil, "which", lambda name: None)
    monkeypatch.setattr(coco, "find_spec", lambda name: None)
    assert (coco.missing() or "").startswith(quoted(6))


def test_7_no_disk(tmp_path, monkeypatch) -> None:
    import errno
    import os

    from vireo.utils import files

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(VireoError) as caught:
        files.write_text(tmp_path / "x.json", "{}")
    assert quoted(7) in str(caught.value) and "x.json" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_8_the_wrong_python(monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    source = (cfg.HOME / "vireo/__init__.py").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        exec(compile(source, "vireo/__init__.py", "exec"), {})
    assert str(caught.value).startswith(quoted(8)) and ".venv/bin/activate" in str(caught.value)
    assert quoted(8) in (cfg.HOME / "Makefile").read_text(encoding="utf-8")


def test_9_a_codec_that_is_lacking(monkeypatch) -> None:
    monkeypatch.setattr(machine, "missing_codecs", lambda: ["av1"])
    (found,) = checks.python()
    assert quoted(9) in found.what


def test_10_an_old_key() -> None:
    with pytest.raises(VireoError) as caught:
        cfg.load(over={"offlin": True})
    assert quoted(10) in str(caught.value)


def test_a_broken_download_resumes_by_itself(tmp_path) -> None:
    """The other half of mistake 4: what Vireo downloads is continued, not perturbed."""
    from vireo.fetch import http

    server = Server()
    threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True).start()
    body = bytes(range(256)) * 2000
    url = server.put("/videos.zip", body, cut_after=[100_000])
    http.BACKOFF_S, before = 0.01, http.BACKOFF_S
    try:
        got = http.download(url, tmp_path / "part", http.Expected(size=len(body)))
    finally:
        http.BACKOFF_S = before
        server.http.shutdown()
        server.http.server_close()
    assert got.size == len(body) and (tmp_path / "part").read_bytes() == body
