"""Where the time goes: seconds by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class StageTimes:
    """Seconds spent per stage, added up over calls; `people` counts the crops."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.people = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the body's wall time to `name`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start
