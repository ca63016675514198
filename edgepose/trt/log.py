"""What TensorRT says: its one logger, and what to do about the errors that are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(eq=False)  # listeners are told apart by identity
class Messages:
    """What TensorRT said while `messages_of` listened."""

    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    layers: str = ""  # of the plan built last, as TensorRT for RTX writes them at detailed verbosity

    def out_of_memory(self) -> bool:
        """Whether an error was that memory was short."""
        return "out of memory" in " ".join(self.errors).lower().replace("outofmemory", "out of memory")

    def last_errors(self) -> str:
        """The last errors and what to do about them, on one line."""
        return "; ".join([*self.errors[-3:], *advice(self.errors)]) or "it gave no reason"


@contextmanager
def messages_of(trt: Any) -> Iterator[Messages]:
    """Collect TensorRT's warnings and errors; of builds in several threads at once each gets all."""
    messages, listeners = Messages(), logger_of(trt).listeners
    listeners.append(messages)
    try:
        yield messages
    finally:
        listeners.remove(messages)  # in one step: other threads change the list, too


@cache
def logger_of(trt: Any) -> Any:
    """The process's one logger: TensorRT keeps the first that it is given and ignores any other."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listeners: list[Messages] = []

        def log(self, severity: Any, message: str) -> None:
            for listener in list(self.listeners):
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    listener.errors.append(message)
                elif severity == trt.ILogger.WARNING:
                    listener.warnings.append(message)
                elif message.startswith("Layers:\n"):
                    listener.layers = message

    return Log()


_ADVICE = (
    ("out of memory", "close other programs or add swap; a smaller --max-batch takes less"),
    ("workspace", "give it more with --workspace, or leave that option out"),
    ("any implementation for node", "raise --workspace; if that does not help, replace the layer in the network"),
    ("driver version is insufficient", "install a newer driver: edgepose doctor says which is there"),
)


def advice(errors: Sequence[str]) -> list[str]:
    """What to do about TensorRT's errors, most likely cure first; nothing for those not known."""
    text = " ".join(errors).lower().replace("outofmemory", "out of memory")
    return [cure for cause, cure in _ADVICE if cause in text][:1]
