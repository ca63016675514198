from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edgepose.io.prefetch import Prefetch


def test_every_frame_comes_in_order():
    assert list(Prefetch(iter(range(100)), ahead=3)) == list(range(100))
    assert list(Prefetch(iter(()))) == []


def test_no_more_than_the_queue_is_read_ahead():
    read = []

    def frames() -> Iterator[int]:
        for index in range(100):
            read.append(index)
            yield index

    prefetch = Prefetch(frames(), ahead=4)
    taken = [frame for frame, _ in zip(prefetch, range(3), strict=False)]
    prefetch.close()

    assert taken[:3] == [0, 1, 2]
    assert len(read) <= 3 + 4 + 2  # taken, waiting, and one in each hand


def test_a_live_source_drops_its_oldest_frames_and_counts_them():
    done = threading.Event()

    def frames() -> Iterator[int]:
        yield from range(50)
        done.set()

    prefetch = Prefetch(frames(), ahead=2, drop=True)
    assert done.wait(5)

    assert list(prefetch) == [48, 49]
    assert prefetch.dropped == 48


def test_what_ends_the_source_is_raised_after_its_last_frame():
    def frames() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken = []
    with pytest.raises(ValueError, match="broken"):
        taken.extend(Prefetch(frames()))

    assert taken == [1]


def test_closing_ends_the_thread_and_the_source():
    closed = threading.Event()

    def frames() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    prefetch = Prefetch(frames(), ahead=1)
    next(iter(prefetch))
    prefetch.close()

    assert closed.wait(5)
    assert not prefetch._thread.is_alive()
