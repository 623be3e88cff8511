"""Downloads against a server that cuts, ignores ranges, refuses, changes and lies."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from vireo.errors import VireoError
from vireo.fetch import http
from vireo.fetch.http import Denied, Expected, Unavailable, WrongContent, download

BODY = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    monkeypatch.setattr(http, "TIMEOUT_S", (2.0, 0.25))
    monkeypatch.setattr(http, "CHUNK", 10_000)


def get(url: str, tmp_path: Path, **known) -> bytes:
    download(url, tmp_path / "part" / "x", Expected(**known))
    return (tmp_path / "part" / "x").read_bytes()


def test_plain(server, tmp_path):
    url = server.put("/x", BODY)
    got = download(url, tmp_path / "x", Expected(len(BODY), SHA.upper()))
    assert (got.size, got.sha256, got.url) == (len(BODY), SHA, url)


def test_counts_bytes(server, tmp_path):
    counted = []
    url = server.put("/x", BODY, cut_after=[100_000], ranges=False)
    download(url, tmp_path / "x", Expected(), counted.append)
    assert sum(counted) == len(BODY)


def test_cut_connection_resumes(server, tmp_path):
    url = server.put("/x", BODY, cut_after=[100_000, 50_000])
    assert get(url, tmp_path, sha256=SHA) == BODY
    assert server.ranges() == [None, "bytes=100000-", "bytes=150000-"]


def test_server_without_ranges_starts_again(server, tmp_path):
    url = server.put("/x", BODY, cut_after=[100_000], ranges=False)
    assert get(url, tmp_path) == BODY


def test_changed_between_resumes_starts_again(server, tmp_path):
    old = bytes(reversed(BODY))
    part = tmp_path / "part" / "x"
    server.put("/x", old, cut_after=[100_000], statuses=[200, 404])
    with pytest.raises(Unavailable, match="does not exist"):
        get(server.url + "/x", tmp_path)
    assert part.stat().st_size == 100_000
    server.put("/x", BODY)
    assert get(server.url + "/x", tmp_path) == BODY


def test_changed_but_server_appends_anyway(server, tmp_path):
    """A server that ignores If-Range mixes two versions: the hash finds it, a clean start heals."""
    part = tmp_path / "part" / "x"
    part.parent.mkdir()
    url = server.put("/x", BODY)
    part.write_bytes(b"z" * 1000)
    (part.parent / "x.state").write_text(f'{{"url": "{url}", "validator": null}}')
    assert get(url, tmp_path, sha256=SHA) == BODY
    assert server.ranges() == ["bytes=1000-", None]


def test_unversioned_server_is_not_resumed_without_a_hash(server, tmp_path):
    url = server.put("/x", BODY, etag=None, cut_after=[100_000])
    assert get(url, tmp_path) == BODY
    assert server.ranges() == [None, None]


def test_complete_partial_is_only_checked(server, tmp_path):
    """Killed between the last byte and the check: the server has nothing left to send (416)."""
    part = tmp_path / "part" / "x"
    url = server.put("/x", BODY, cut_after=[0])
    part.parent.mkdir()
    part.write_bytes(BODY)
    (part.parent / "x.state").write_text(f'{{"url": "{url}", "validator": "{hash}"}}')
    assert get(url, tmp_path, sha256=SHA) == BODY


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408])
def test_overload_is_tried_again(server, tmp_path, code):
    url = server.put("/x", BODY, statuses=[code, code], headers={"Retry-After": "0"})
    assert get(url, tmp_path) == BODY


def test_gives_up_after_some_attempts(server, tmp_path):
    url = server.put("/x", BODY, statuses=[500] * 50)
    with pytest.raises(Unavailable, match="HTTP 500"):
        get(url, tmp_path)
    assert len(server.requests) == http.ATTEMPTS


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (401, Denied, "wants a login"),
        (403, Denied, "refuses"),
        (404, Unavailable, "does not exist"),
        (418, Unavailable, "HTTP 418"),
    ],
)
def test_refusals_are_not_tried_again(server, tmp_path, code, kind, text):
    url = server.put("/x", BODY, statuses=[code] * 9)
    with pytest.raises(kind, match=text):
        get(url, tmp_path)
    assert len(server.requests) == 1


def test_wrong_bytes(server, tmp_path):
    url = server.put("/x", b"<html>captive portal</html>")
    with pytest.raises(WrongContent, match=r"offers 27 bytes, 300000 expected"):
        get(url, tmp_path, size=len(BODY))
    with pytest.raises(WrongContent, match=f"sha256 is .*, {SHA} expected"):
        get(url, tmp_path, sha256=SHA)
    with pytest.raises(WrongContent, match="md5"):
        get(url, tmp_path, md5="0" * 32)
    assert not (tmp_path / "part" / "x").exists()


def test_endless_answer_is_stopped(server, tmp_path):
    url = server.put("/x", BODY, length=False)
    with pytest.raises(WrongContent, match="sends more than 1000 bytes"):
        get(url, tmp_path, size=1000)


def test_slow_is_fine_and_stalled_is_resumed(server, tmp_path):
    slow = server.put("/x", BODY[:40_000], delay=0.05)
    assert get(slow, tmp_path) == BODY[:40_000]
    stalled = server.put("/y", BODY[:40_000], delay=0.35)
    download(stalled, tmp_path / "y", Expected())
    assert (tmp_path / "y").read_bytes() == BODY[:40_000]
    assert "bytes=30000-" in server.ranges()


def test_silence_is_not(server, tmp_path, monkeypatch):
    monkeypatch.setattr(http, "ATTEMPTS", 2)
    url = server.put("/x", BODY, silence=0.4)
    with pytest.raises(Unavailable, match=r"(?i)timed? ?out"):
        get(url, tmp_path)


def test_unreachable_is_given_up_soon(tmp_path):
    with pytest.raises(Unavailable, match=r"refused"):
        get("http://127.0.0.1:9/x", tmp_path)


def test_secrets_stay_out_of_errors_and_state(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "planted-value-123")
    base = server.put("/x", BODY, statuses=[200, 404], cut_after=[1000])
    url = base.replace("http://", "http://me:hunter2@") + "?token=s3cr3t&k=planted-value-123&a=1"
    with pytest.raises(VireoError) as error:
        get(url, tmp_path)
    seen = str(error.value) + (tmp_path / "part" / "x.state").read_text()
    assert "a=1" in seen
    for secret in ("hunter2", "s3cr3t", "planted-value-123"):
        assert secret not in seen


def test_no_descriptor_is_left_open(server, tmp_path):
    url = server.put("/x", BODY, cut_after=[10, 10, 10])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    get(url, tmp_path)
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 1
