"""The prefetching thread: order, errors at their place, and an end when nobody listens any more."""

import threading

import pytest

from vireo.utils.prefetch import Prefetch


def alive():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


def test_order_and_end():
    with Prefetch(iter(range(100)), depth=3) as ahead:
        assert list(ahead) == list(range(100))
    assert not alive()


def test_it_works_ahead_but_not_further_than_asked():
    made = []
    reached = threading.Event()

    def source():
        for n in range(50):
            made.append(n)
            if n == 4:
                reached.set()
            yield n

    with Prefetch(source(), depth=4) as ahead:
        assert reached.wait(5)  # nobody has taken anything yet
        assert len(made) <= 5
        assert next(iter(ahead)) == 0


def test_errors_come_out_at_their_place():
    def source():
        yield 1
        raise ValueError("broken")

    with Prefetch(source()) as ahead:
        each = iter(ahead)
        assert next(each) == 1
        with pytest.raises(ValueError, match="broken"):
            next(each)
    assert not alive()


def test_leaving_early_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with pytest.raises(KeyError), Prefetch(source(), depth=2) as ahead:
        next(iter(ahead))
        raise KeyError
    assert closed.is_set() and not alive()
