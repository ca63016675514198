"""SIGINT (Ctrl-C) and SIGTERM (`docker stop`, systemd) interrupt a command, which then leaves no half-written file.

While Python still loads its modules there is nothing to tidy up, and modules report an exception as a broken
installation. So until then the process ends at once, with one line.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

STATUS = 130  # the shell's for Ctrl-C
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_raised = False


def leave_at_once() -> None:
    """From now on either signal ends the process; one that the parent has set to be ignored stays ignored (`nohup`)."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)


def interrupt_work() -> None:
    """From now on either signal is a KeyboardInterrupt, where `leave_at_once` was called before."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, _raise)


def came() -> bool:
    """Whether a signal has interrupted the work; an error that comes after it may only be its consequence."""
    return _raised


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted before anything was begun\n")
    os._exit(STATUS)


def _raise(number: int, frame: FrameType | None) -> None:
    global _raised
    _raised = True
    raise KeyboardInterrupt
