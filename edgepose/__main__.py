"""The start of the `edgepose` command, and `python -m edgepose`. Imports nothing but what a second line needs."""

from __future__ import annotations

import os
import sys
import warnings

from edgepose import interrupts


def main() -> None:
    """Run the command. From here on a signal is one line, and a closed stream is an empty one."""
    interrupts.leave_at_once()
    _open_streams()
    warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of numbers that are checked afterwards
    from edgepose.cli import main as command  # click

    command()


def _open_streams() -> None:
    """Lay /dev/null where stdin, stdout or stderr is closed, or the next file to be opened would be taken for it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
