"""A small HTTP server on 127.0.0.1 that misbehaves as asked."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Page:
    """One path: its bytes and its manners."""

    def __init__(self, body: bytes, **manners: Any) -> None:
        self.body = body
        self.etag: str | None = manners.pop("etag", f'"{hashlib.md5(body).hexdigest()}"')
        self.cut_after: list[int] = manners.pop("cut_after", [])  # bytes of each answer, then all
        self.ranges: bool = manners.pop("ranges", True)
        self.statuses: list[int] = manners.pop("statuses", [])  # one per request, then 200
        self.delay: float = manners.pop("delay", 0.0)  # between packets
        self.silence: float = manners.pop("silence", 0.0)  # before an answer begins
        self.length: bool = manners.pop("length", True)
        self.headers: dict[str, str] = manners.pop("headers", {})
        self.token: str | None = manners.pop("token", None)
        assert not manners, manners


class Server:
    """Pages by path, and a list of the requests that came."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        handler = type("Bound", (_Handler,), {"owner": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def put(self, path: str, body: bytes, **manners: Any) -> str:
        self.pages[path] = Page(body, **manners)
        return self.url + path

    def hub(
        self,
        repo: str,
        files: dict[str, bytes],
        kind: str = "model",
        commit: str = "c" * 40,
        revisions: tuple[str, ...] = ("main",),
        token: str | None = None,
    ) -> None:
        """Serve the part of the Hub's interface that a download needs."""
        api = f"/api/{kind}s/{repo}"
        listed = [
            {
                "rfilename": name,
                "size": len(body),
                "lfs": {
                    "sha256": hashlib.sha256(body).hexdigest(),
                    "size": len(body),
                    "pointerSize": 130,
                },
            }
            for name, body in files.items()
        ]
        info = {"id": repo, "sha": commit, "siblings": listed, "private": False, "tags": []}
        place = {"model": "", "dataset": "/datasets"}[kind]
        for revision in {*revisions, commit}:
            answer = json.dumps({**info, "sha": commit}).encode()
            self.put(f"{api}/revision/{revision}", answer, token=token)
            for name, body in files.items():
                digest = hashlib.sha256(body).hexdigest()
                self.put(
                    f"{place}/{repo}/resolve/{revision}/{name}",
                    body,
                    etag=f'"{digest}"',
                    token=token,
                    headers={
                        "X-Repo-Commit": commit,
                        "X-Linked-Etag": f'"{digest}"',
                        "X-Linked-Size": str(len(body)),
                    },
                )

    def ranges(self) -> list[str | None]:
        return [r for method, _, r in self.requests if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, send: bool) -> None:
        path, asked = self.path.partition("?")[0], self.headers.get("Range")
        self.owner.requests.append((self.command, self.path, asked))
        page = self.owner.pages.get(path)
        if page is None:
            return self._error(404)
        time.sleep(page.silence)
        if page.token and self.headers.get("Authorization") != f"Bearer {page.token}":
            return self._error(401)
        if page.statuses:
            code = page.statuses.pop(0)
            if code != 200:
                return self._error(code, page.headers)
        start, status = 0, 200
        if asked and page.ranges and self.headers.get("If-Range", page.etag) == page.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-\d*", asked)[1])
            status = 206
            if start >= len(page.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(page.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        body = page.body[start:]
        self.send_response(status)
        if status == 206:
            last = len(page.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(page.body)}")
        if page.etag:
            self.send_header("ETag", page.etag)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if page.length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if not send:
            return None
        if page.cut_after:
            body = body[: page.cut_after.pop(0)]
            self.close_connection = True
        for at in range(0, len(body), 1 << 14):
            try:
                self.wfile.write(body[at : at + (1 << 14)])
            except OSError:
                self.close_connection = True
                return None
            if page.delay:
                self.wfile.flush()
                time.sleep(page.delay)
        if not page.length:
            self.close_connection = True
        return None

    def _error(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
