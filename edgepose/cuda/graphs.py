"""CUDA graphs: many launches recorded once and replayed as one. pycuda has none, so these are six driver calls.

Driver calls and constants: CUDA Driver API reference, "Stream Management" and "Graph Management".
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate while this one records

# Held while a stream is recorded, and for calls that may wait for the whole context (an engine is loaded, run for the
# first time, freed): such a wait, in whatever thread, ends every recording and fails itself.
recording = threading.RLock()


class GraphError(Exception):
    """The driver could not record or replay; carries its reason."""


class Graph:
    """What `record` put on a stream, ready to be put there again.

    Every address and every argument is the recorded one: what they point to must stay where it is until `close`.

    Args:
        stream: the handle of a stream that is not the default one.
        record: puts the work on that stream, by this thread. It must not wait for the stream or allocate memory.

    Raises:
        GraphError: the driver could not record it; the stream is as it was before.
    """

    def __init__(self, stream: int, record: Callable[[], None]) -> None:
        self._cuda = load_driver()
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        with recording, _no_collection():
            self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THREAD_LOCAL)
            try:
                record()
            except BaseException as error:  # Ctrl-C too, or the stream takes no work any more
                self._cuda.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
                if graph:
                    self._cuda.cuGraphDestroy(graph)
                if isinstance(error, Exception):
                    raise GraphError(str(error)) from error
                raise
            self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._cuda.cuGraphDestroy(graph)  # the executable is a copy

    def launch(self, stream: int) -> None:
        """Put the recorded work on a stream; GraphError if the driver refuses."""
        self._call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream))

    def close(self) -> None:
        """Free it; a second call does nothing. Work that is under way is finished."""
        if self._executable:
            self._cuda.cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()

    def _call(self, function: str, *arguments: Any) -> None:
        if (status := getattr(self._cuda, function)(*arguments)) != 0:
            raise GraphError(f"{function} gave CUDA error {status}")


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage is collected: a module or memory of the GPU in it, freed by this thread, would end a recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_driver() -> Any:
    """The CUDA driver's library."""
    return ctypes.CDLL("libcuda.so.1")
