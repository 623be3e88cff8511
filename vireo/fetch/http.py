"""One file over HTTP(S): resumed after a cut, checked, never half-written under its final name.

Made from a URL: `<partial>` grows next to `<partial>.state`, which remembers what the server said
the file was (validator and length), so that a resume after `kill -9` continues the same file or
starts again.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from vireo import __version__
from vireo.errors import VireoError
from vireo.utils.redact import redact

ATTEMPTS = 6  # per URL, counting only those that brought no new byte
UNREACHABLE_ATTEMPTS = 2  # no route or no such host: a mirror or the manual step is more use
BACKOFF_S = 1.0
TIMEOUT_S = (20.0, 60.0)  # to connect, between two packets
CHUNK = 1 << 16  # a broken connection loses what is less than this

Report = Callable[[int], None]


class Unavailable(VireoError):
    """This URL cannot give the file now; another one may."""


class Denied(Unavailable):
    """The server wants a login or forbids the download."""


class WrongContent(Unavailable):
    """The bytes are not the expected ones."""


class _Retry(Exception):
    """The connection broke or the server is overloaded: trying again may help."""

    def __init__(self, why: str, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(why)
        self.wait, self.unreachable = wait, unreachable


@dataclass
class Expected:
    """What is known of a file beforehand; None where it is not."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def check(self, size: int, sha256: str, md5: str, name: str) -> None:
        """Raise WrongContent naming what differs."""
        if self.size is not None and size != self.size:
            raise WrongContent(f"{name}: {size} bytes came, {self.size} expected")
        for kind, want, got in (("sha256", self.sha256, sha256), ("md5", self.md5, md5)):
            if want and want.lower() != got:
                raise WrongContent(f"{name}: {kind} is {got}, {want.lower()} expected")


@dataclass
class Got:
    """A finished download."""

    size: int
    sha256: str
    url: str


def download(url: str, partial: Path, expected: Expected, report: Report | None = None) -> Got:
    """Fetch `url` into `partial` (appending to what a killed run left there) and check it.

    `report(n)` is told of bytes that arrived (negative after a restart). Raises Unavailable or one
    of its kinds when the URL cannot give the expected file; network trouble is tried again first.
    """
    report = report or (lambda n: None)
    partial.parent.mkdir(parents=True, exist_ok=True)
    failures, clean_start_tried = 0, False
    while True:
        before = _size(partial)
        try:
            return _attempt(url, partial, expected, report)
        except WrongContent:
            _forget(partial, report)
            # A resumed file may mix two versions of it; only a file read in one piece is judged.
            if before == 0 or clean_start_tried:
                raise
            clean_start_tried = True
        except _Retry as trouble:
            failures = 1 if _size(partial) > before else failures + 1
            if failures >= (UNREACHABLE_ATTEMPTS if trouble.unreachable else ATTEMPTS):
                raise Unavailable(f"{redact(url)}: {redact(trouble)}") from None
            time.sleep(trouble.wait or BACKOFF_S * 2 ** (failures - 1))


def _attempt(url: str, partial: Path, expected: Expected, report: Report) -> Got:
    state, have = _resume_point(url, partial, expected, report)
    headers = {"Accept-Encoding": "identity", "User-Agent": f"vireo/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("validator"):
            headers["If-Range"] = state["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == 416 and have:
                return _after_416(response, url, partial, expected, report)
            _judge_status(response, url)
            if have and not _continues(response, state, have):
                _forget(partial, report)
                have = 0
                if response.status_code == 206:
                    raise _Retry("the file changed on the server, starting again")
            total = _total(response, have)
            if expected.size is not None and total is not None and total != expected.size:
                raise WrongContent(f"{redact(url)} offers {total} bytes, {expected.size} expected")
            if not have:
                _write_state(partial, url, response, total)
            _receive(response, partial, have, total, expected, report)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Retry(_plain(error), unreachable=_no_route(error)) from None
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Retry(f"connection cut ({_plain(error)})") from None
    except requests.RequestException as error:
        raise Unavailable(f"{redact(url)}: {redact(error)}") from None
    return _finish(url, partial, expected)


def _resume_point(
    url: str, partial: Path, expected: Expected, report: Report
) -> tuple[dict[str, Any], int]:
    have = _size(partial)
    state: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        state = json.loads(_state_file(partial).read_text())
    # Bytes of another mirror, or of a server that names no version, are continued only where a
    # hash will prove the whole.
    same_origin = state.get("url") == redact(url) and state.get("validator")
    known_origin = same_origin or expected.sha256 or expected.md5
    if have and (not state or not known_origin):
        _forget(partial, report)
        return {}, 0
    if state.get("url") != redact(url):
        state = {**state, "validator": None}
    return state, have


def _judge_status(response: requests.Response, url: str) -> None:
    code, where = response.status_code, redact(url)
    if code in (200, 206):
        return
    if code in (401, 407):
        raise Denied(f"{where} wants a login (HTTP {code})")
    if code in (403, 451):
        raise Denied(f"{where} refuses the download (HTTP {code})")
    if code in (404, 410):
        raise Unavailable(f"{where} does not exist any more (HTTP {code})")
    if code in (408, 425, 429) or code >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _Retry(f"HTTP {code}", min(float(wait), 60.0) if wait.isdigit() else None)
    raise Unavailable(f"{where} answers HTTP {code}")


def _continues(response: requests.Response, state: dict[str, Any], have: int) -> bool:
    """True when the answer is the rest of the same file."""
    if response.status_code != 206:
        return False
    start, total = _content_range(response)
    validator = _validator(response)
    if state.get("validator") and validator and validator != state["validator"]:
        return False
    if state.get("size") is not None and total is not None and total != state["size"]:
        return False
    return start == have


def _after_416(
    response: requests.Response, url: str, partial: Path, expected: Expected, report: Report
) -> Got:
    """Nothing is left to send: either the file is complete here, or it has changed there."""
    if _content_range(response)[1] in (_size(partial), None):
        try:
            return _finish(url, partial, expected)
        except WrongContent:
            pass
    _forget(partial, report)
    raise _Retry("the file changed on the server, starting again")


def _receive(
    response: requests.Response,
    partial: Path,
    have: int,
    total: int | None,
    expected: Expected,
    report: Report,
) -> None:
    limit = expected.size if expected.size is not None else total
    count = have
    with open(partial, "ab") as handle:
        for chunk in response.iter_content(CHUNK):
            count += len(chunk)
            if limit is not None and count > limit:
                raise WrongContent(f"{redact(response.url)} sends more than {limit} bytes")
            handle.write(chunk)
            report(len(chunk))
    if total is not None and count < total:
        raise _Retry(f"connection cut after {count} of {total} bytes")


def _finish(url: str, partial: Path, expected: Expected) -> Got:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(partial, "rb") as handle:
        while chunk := handle.read(CHUNK):
            sha256.update(chunk)
            if expected.md5:
                md5.update(chunk)
    size = _size(partial)
    expected.check(size, sha256.hexdigest(), md5.hexdigest(), redact(url))
    return Got(size, sha256.hexdigest(), redact(url))


def _write_state(partial: Path, url: str, response: requests.Response, total: int | None) -> None:
    state = {"url": redact(url), "validator": _validator(response), "size": total}
    partial.unlink(missing_ok=True)
    _state_file(partial).write_text(json.dumps(state))


def _validator(response: requests.Response) -> str | None:
    """A strong ETag or the date of the last change; weak ETags do not promise equal bytes."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """(first byte, whole length) of a `Content-Range: bytes 5-9/10` or `bytes */10` header."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes":
        return None, None
    return (int(start) if start.isdigit() else None, int(total) if total.isdigit() else None)


def _total(response: requests.Response, have: int) -> int | None:
    if response.status_code == 206:
        return _content_range(response)[1]
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _state_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".state")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(partial: Path, report: Report) -> None:
    report(-_size(partial))
    partial.unlink(missing_ok=True)
    _state_file(partial).unlink(missing_ok=True)


def discard_state(partial: Path) -> None:
    """Remove the resume notes of a finished download."""
    _state_file(partial).unlink(missing_ok=True)


def _no_route(error: Exception) -> bool:
    text = str(error)
    signs = (
        "NameResolution",
        "Name or service",
        "refused",
        "unreachable",
        "No route",
        "ProxyError",
    )
    return any(sign in text for sign in signs)


def _plain(error: Exception) -> str:
    """The innermost reason: `requests` wraps it in two layers of object names."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    return redact(text.rpartition(">: ")[2] or text)
