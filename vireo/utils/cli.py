"""What commands print: one log file, progress on stderr, errors without tracebacks."""

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from vireo.errors import VireoError

T = TypeVar("T")
FILE_ERRORS = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST),
    *(errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG, errno.ELOOP),
}
log = logging.getLogger("vireo")


def setup(log_file: str | Path | None = None) -> None:
    """Send vireo's log to stderr and, if given, to `log_file` (made new at each start)."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
        force=True,
    )
    for noisy in ("matplotlib", "PIL", "httpx", "httpx2", "urllib3", "libav"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that every command has: --config (repeatable) and --log."""
    group = parser.add_argument_group("configuration and log")
    group.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="configuration merged over the shipped one (repeatable; default: what $VIREO_CONFIG "
        "names, else config/config.yaml of the working directory)",
    )
    group.add_argument("--log", metavar="FILE", help="also write the log here")


def call(main: Callable[[], int | None]) -> int:
    """Exit code of a command; mistakes of the user become one line on stderr.

    0 done; 1 an error, or something that a command was asked to look for; 2 wrong usage (argparse);
    130 interrupted.
    """
    try:
        return main() or 0
    except VireoError as error:
        _report(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A file that the user named; anything else is a fault of ours and keeps its traceback.
        if error.filename is None or error.errno not in FILE_ERRORS:
            raise
        _report(f"{os.fsdecode(error.filename)}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 1


def run(main: Callable[[], int | None]) -> None:
    """End the process with the exit code of a script's `main`."""
    sys.exit(call(main))


def _report(message: str) -> None:
    if any(getattr(h, "stream", None) is sys.stderr for h in logging.getLogger().handlers):
        log.error("error: %s", message)
    else:  # before `setup`
        print(f"error: {message}", file=sys.stderr)


class Progress:
    """A bar on a terminal; elsewhere one log line per 30 s with count, rate and time left."""

    def __init__(
        self, total: int | None, what: str, unit: str = "item", every: float = 30.0
    ) -> None:
        self.total, self.what, self.unit, self.every = total, what, unit, every
        self.count, self.start, self.last = 0, time.monotonic(), time.monotonic()
        self.bar = (
            tqdm(total=total, desc=what, unit=unit, file=sys.stderr)
            if sys.stderr.isatty()
            else None
        )

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more done; `note` is shown beside the rate."""
        self.count += n
        if self.bar is not None:
            if note:
                self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(n)
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            log.info("%s", self._line(note))

    def _line(self, note: str) -> str:
        rate = self.count / max(time.monotonic() - self.start, 1e-9)
        left = ""
        if self.total and rate > 0:
            seconds = int((self.total - self.count) / rate)
            left = f", {seconds // 3600:d}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
        total = f"/{self.total}" if self.total else ""
        note = f" {note}" if note else ""
        return f"{self.what}: {self.count}{total} {self.unit}, {rate:.2f}/s{left}{note}"

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def progress(
    items: Iterable[T], what: str, total: int | None = None, unit: str = "item"
) -> Iterator[T]:
    """Iterate with a `Progress`."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    with Progress(total, what, unit) as bar:
        for item in items:
            yield item
            bar.update()
