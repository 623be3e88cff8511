"""Out of memory halves the batch: nothing is lost, nothing twice."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vireo.utils import batching


@pytest.fixture(scope="module", autouse=True)
def _quick_collection():
    """What is alive already (all of torch) is not walked at each of hundreds of collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "error,expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert batching.is_out_of_memory(error) is expected


@settings(max_examples=25)
@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_backing_off_keeps_every_item_once_and_in_order(n, size, fits):
    calls = []

    def double(batch):
        calls.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * x for x in batch]

    batches = batching.AdaptiveBatcher(size)
    assert batches.run(double, range(n)) == [2 * x for x in range(n)]
    assert len([c for c in calls if c > fits]) <= 5  # halved, not counted down
    if n >= size > fits:
        assert batches.size <= fits  # and remembered
    assert batches.run(double, range(n)) == [2 * x for x in range(n)]


def test_an_item_that_never_fits_is_an_error():
    def full(batch):
        raise MemoryError

    with pytest.raises(MemoryError):
        batching.AdaptiveBatcher(8).run(full, [1, 2, 3])


def test_other_errors_pass_through():
    def broken(batch):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        batching.AdaptiveBatcher(8).run(broken, [1, 2, 3])
