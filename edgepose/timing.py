"""Where the time goes. Whoever wants to know measures a piece of work; what it calls says which stage it is in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter


class StageTimes:
    """Seconds spent per stage, added up over calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Add to a stage."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the body's wall time to `name`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(name, perf_counter() - start)


_current: ContextVar[StageTimes | None] = ContextVar("edgepose_stage_times", default=None)


@contextmanager
def measured(times: StageTimes | None = None) -> Iterator[StageTimes]:
    """Measure the body: the stages of all that it calls, in this thread, go to these times."""
    times = StageTimes() if times is None else times
    token = _current.set(times)
    try:
        yield times
    finally:
        _current.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The body is this stage; its wall time goes to whoever measures, if anybody does."""
    times = _current.get()
    if times is None:
        yield
        return
    with times.stage(name):
        yield


def add_seconds(seconds: Iterable[tuple[str, float]]) -> None:
    """Stages that were measured elsewhere, by CUDA events say, go to whoever measures."""
    times = _current.get()
    if times is not None:
        for name, spent in seconds:
            times.add(name, spent)
