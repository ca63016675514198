"""A group of checks in a process of its own, with a time limit: what crashes or hangs takes only its group with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from threading import Timer
from time import perf_counter

import click

from edgepose.benchmarks.gpu.rows import FAILED, Row

MARK = "row: "  # before a row's JSON on the process's standard output; libraries print there, too


def print_rows(rows: Iterator[Row]) -> None:
    """In the group's process: hand each row over as it comes."""
    for row in rows:
        print(f"{MARK}{json.dumps(asdict(row))}", flush=True)


def run_group(command: Sequence[str], group: str, seconds: float, environment: dict[str, str]) -> Iterator[Row]:
    """Run a group in a process of its own, and give its rows as they come.

    Args:
        command: what runs it, printing a line of MARK and JSON for each row.
        seconds: after which it is ended.
    """
    start = perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, errors="replace", env=environment, start_new_session=True
    )

    def end() -> None:  # nvcc as well, which would keep the pipe open
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = Timer(seconds, end)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                yield Row(**json.loads(line.removeprefix(MARK)))
            else:
                click.echo(line.rstrip(), err=True)
        status = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:  # the caller has stopped asking, by Ctrl-C say
            end()
    if status != 0:
        late = perf_counter() - start >= seconds
        reason = f"out of time after {seconds:.0f} s" if late else f"the process ended with status {status}"
        yield Row(group, "the rest", FAILED, f"{reason}; checks of this group without a row were not done")
