"""What happens when memory runs out: half the batch, and on."""

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
log = logging.getLogger("vireo")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that GPU or main memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


class AdaptiveBatcher:
    """Run a function over batches; when memory runs out, halve the batch and go on with that."""

    def __init__(self, size: int) -> None:
        self.size = max(1, size)

    def run(
        self, function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """`function` of consecutive batches of `items`, joined: one result per item.

        Raises the out-of-memory error only when a single item does not fit.
        """
        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.size]
            try:
                results.extend(function(batch))
                continue
            except Exception as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
            # Outside of `except`: the traceback would keep the tensors of the failed try alive.
            self.size = max(1, len(batch) // 2)
            log.warning("out of memory with a batch of %d: going on with %d", len(batch), self.size)
            _free_memory()
        return results


def _free_memory() -> None:
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
