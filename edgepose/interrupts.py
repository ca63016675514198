"""SIGINT, and SIGTERM of `docker stop` or systemd: both interrupt a command, which leaves nothing half-written.

While Python's modules load, there is nothing to tidy up, and an exception would end in their words about a broken
installation: the process leaves at once, with one line.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

STATUS = 130  # the shell's for Ctrl-C
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_raised = False


def leave_at_once() -> None:
    """From now on either signal ends the process, unless the parent has had it ignored (a shell's background job)."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)


def interrupt_work() -> None:
    """From now on either signal is a KeyboardInterrupt, where `leave_at_once` was called before."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _raise)


def came() -> bool:
    """True after a signal has interrupted the work: an error since then may be nothing but its echo."""
    return _raised


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted before anything was begun\n")
    os._exit(STATUS)


def _raise(number: int, frame: FrameType | None) -> None:
    global _raised
    _raised = True
    raise KeyboardInterrupt
