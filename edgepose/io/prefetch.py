"""Frames read ahead by a thread of their own, so that decoding goes on while a network runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Reads an iterator ahead in a thread. One thread iterates; `close` may be called by any.

    Args:
        frames: read in the thread alone; closed there in the end, if it is a generator.
        ahead: so many frames wait at most.
        drop: of a live source: when the queue is full the oldest frame is dropped, so that what comes is never older
            than `ahead` frames. Else the thread waits, and no frame is lost.

    Attributes:
        dropped: frames that were dropped so far.
    """

    def __init__(self, frames: Iterator[T], *, ahead: int = 4, drop: bool = False) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, got {ahead}")
        self.dropped = 0
        self._frames, self._ahead, self._drop = frames, ahead, drop
        self._waiting: deque[T] = deque()
        self._error: BaseException | None = None
        self._done = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="edgepose-decode", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """The frames; then what the iterator raised, if it did."""
        while True:
            with self._changed:
                while not self._waiting and not self._done:
                    self._changed.wait(0.2)  # so that Ctrl-C is seen, on every platform
                if not self._waiting:
                    break
                frame = self._waiting.popleft()
                self._changed.notify_all()
            yield frame
        if self._error is not None:
            raise self._error

    def ready(self) -> bool:
        """True if the next frame, or the end, is there at once."""
        with self._changed:
            return bool(self._waiting) or self._done

    def close(self, wait_s: float = 2.0) -> None:
        """End the thread; frames that wait are lost. A read that hangs is left to end with the process."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(wait_s)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._changed:
                    while len(self._waiting) >= self._ahead and not self._closed:
                        if self._drop:
                            self._waiting.popleft()
                            self.dropped += 1
                        else:
                            self._changed.wait()
                    if self._closed:
                        return
                    self._waiting.append(frame)
                    self._changed.notify_all()
        except BaseException as error:  # handed to the thread that iterates
            self._error = error
        finally:
            close = getattr(self._frames, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._done = True
                self._changed.notify_all()
