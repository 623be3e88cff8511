"""Files of the Hugging Face Hub, through `huggingface_hub`.

Made from a repository and a revision: files in a folder. The token comes from the environment
(HF_TOKEN, or `hf auth login`), never from the configuration. A moving revision such as `main` is
resolved to its commit, which the lock file keeps (see receipt.py).
"""

import fnmatch
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vireo.errors import VireoError
from vireo.fetch import http
from vireo.utils.redact import redact


@dataclass
class Remote:
    """One file of a repository at a commit."""

    name: str
    size: int | None
    sha256: str | None


@dataclass
class Repository:
    """A repository at one commit."""

    repo: str
    kind: str
    commit: str
    files: list[Remote]

    def matching(self, pattern: str) -> list[Remote]:
        """Files whose path matches a glob, in order of name."""
        return [f for f in self.files if fnmatch.fnmatchcase(f.name, pattern)]


def look_up(repo: str, kind: str, revision: str) -> Repository:
    """Resolve a revision and list its files with sizes and hashes.

    Raises http.Denied for gated or private repositories, http.Unavailable for anything else.
    """
    from huggingface_hub import HfApi

    with _plain_errors(repo):
        info: Any = _patiently(
            lambda: HfApi(endpoint=_endpoint()).repo_info(
                repo, revision=revision, repo_type=kind, files_metadata=True
            )
        )
    files = []
    for sibling in info.siblings or []:
        lfs = sibling.lfs or {}
        get = lfs.get if isinstance(lfs, dict) else lambda key, lfs=lfs: getattr(lfs, key, None)
        files.append(Remote(sibling.rfilename, get("size") or sibling.size, get("sha256")))
    return Repository(repo, kind, info.sha or revision, sorted(files, key=lambda f: f.name))


def download(
    where: Repository, name: str, folder: Path, report: Callable[[int], None] | None = None
) -> Path:
    """Fetch one file below `folder`, continuing an interrupted download; returns its path."""
    from huggingface_hub import hf_hub_download

    with _plain_errors(where.repo):
        path = _patiently(
            lambda: hf_hub_download(
                where.repo,
                name,
                repo_type=where.kind,
                revision=where.commit,
                local_dir=folder,
                endpoint=_endpoint(),
                tqdm_class=_bar(report or (lambda n: None)),
            )
        )
    return Path(str(path))


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _bar(report: Callable[[int], None]) -> type[tqdm]:
    """A silent stand-in for the library's progress bar that tells `report` instead."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            initial = kwargs.get("initial", 0)
            super().__init__(*args, **{**kwargs, "disable": True})
            report(int(initial))

        def update(self, n: float | None = 1) -> bool | None:
            report(int(n or 0))
            return super().update(n)

    return Bar


def _patiently(call: Callable[[], Any]) -> Any:
    """Call again with back-off when the server is overloaded or the connection breaks."""
    for attempt in range(http.ATTEMPTS):
        try:
            return call()
        except Exception as error:
            allowed = http.UNREACHABLE_ATTEMPTS if _no_route(error) else http.ATTEMPTS
            if not _passing(error) or attempt + 1 >= allowed:
                raise
            time.sleep(http.BACKOFF_S * 2**attempt)
    raise AssertionError("unreachable")


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _passing(error: Exception) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, LocalEntryNotFoundError):
        # "Cannot find the file on the Hub, check your connection": the cause says why.
        return not isinstance(error.__cause__, OfflineModeIsEnabled) and _status(
            error.__cause__ or error
        ) in (None, 408, 429, 500, 502, 503, 504)
    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    return (
        "Timeout" in type(error).__name__
        or "Connect" in type(error).__name__
        or (type(error).__name__ in ("ReadError", "RemoteProtocolError"))
    )


def _no_route(error: Exception) -> bool:
    cause = error.__cause__ or error
    return "Connect" in type(cause).__name__ and "Timeout" not in type(cause).__name__


@contextmanager
def _plain_errors(repo: str) -> Iterator[None]:
    """Turn the library's exceptions into ours, naming the repository and the fix."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo}"
    try:
        yield
    except errors.GatedRepoError:
        raise http.Denied(
            f"{repo} is gated: accept its terms on the Hub ({page}), make a token and export "
            "HF_TOKEN=…"
        ) from None
    except errors.RepositoryNotFoundError:
        token = os.environ.get("HF_TOKEN")
        hint = "your HF_TOKEN has no access" if token else "if it is private, export HF_TOKEN=…"
        raise http.Denied(f"the Hub shows no repository {repo} to you; {hint}") from None
    except errors.RevisionNotFoundError:
        raise http.Unavailable(f"{repo} has no such revision (see `revision:`)") from None
    except errors.OfflineModeIsEnabled:
        raise http.Unavailable(f"{repo}: HF_HUB_OFFLINE is set, so the Hub is not asked") from None
    except VireoError:
        raise
    except Exception as error:
        if _status(error) == 401:
            raise http.Denied(f"{repo}: the Hub wants a login; export HF_TOKEN=…") from None
        if _status(error) == 403:
            raise http.Denied(f"{repo}: your HF_TOKEN may not read it") from None
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(
            error, errors.LocalEntryNotFoundError
        ):
            raise http.Unavailable(f"{repo} has no such file: {_first_line(error)}") from None
        if isinstance(error, OSError) and error.errno == 28:
            raise
        cause = error.__cause__ or error
        raise http.Unavailable(f"{repo}: {_first_line(cause)}") from None


def _first_line(error: BaseException) -> str:
    lines = redact(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
