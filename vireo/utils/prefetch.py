"""Run an iterator in a thread of its own, a few elements ahead of whoever uses them."""

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
_END = object()


class Prefetch(Generic[T]):
    """Iterate `source` ahead by up to `depth` elements; its exceptions come out at their place.

    As a context manager: leaving the block ends the thread and closes `source`, in whatever state.
    """

    def __init__(self, source: Iterator[T], depth: int = 4) -> None:
        self._source = source
        self._queue: queue.Queue[object] = queue.Queue(max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def _work(self) -> None:
        last: object = _END
        try:
            for element in self._source:
                if not self._put(element):
                    break
        except BaseException as error:
            last = error
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
        self._put(last)

    def _put(self, element: object) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(element, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            element = self._queue.get()
            if element is _END:
                return
            if isinstance(element, BaseException):
                raise element
            yield element  # type: ignore[misc]

    def __enter__(self) -> "Prefetch[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        # It notices at its next element; a daemon thread keeps no process alive until then.
        self._thread.join(timeout=5)
