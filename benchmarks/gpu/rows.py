"""Results of the acceptance run: a row for each check, in one Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgepose.errors import MissingPackageError

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"
HEAD = "| group | check | result | found | wanted |\n| --- | --- | --- | --- | --- |"
LONGEST = 300  # characters of an error


class SkippedError(Exception):
    """A check cannot be done here; carries the reason."""


@dataclass(frozen=True)
class Finding:
    """What a check found: whether that is right, in words, and what was wanted; nothing where it only measures."""

    ok: bool
    found: str
    wanted: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table; `result` is OK, FAILED or SKIPPED."""

    group: str
    check: str
    result: str
    found: str
    wanted: str = ""

    def markdown(self) -> str:
        """The line."""
        cells = (self.group, self.check, self.result, self.found, self.wanted)
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


Check = tuple[str, Callable[[], Finding]]  # its name, and how it is done


def run_check(group: str, name: str, check: Callable[[], Finding]) -> Row:
    """Do one check; whatever it raises becomes its row."""
    try:
        finding = check()
    except Exception as error:  # CUDA's and TensorRT's are of any type; the other checks go on
        return row_of(group, name, error)
    return Row(group, name, OK if finding.ok else FAILED, finding.found, finding.wanted)


def row_of(group: str, name: str, error: Exception) -> Row:
    """The row of a check that raised: skipped where something it needs is not here, else failed."""
    if isinstance(error, (SkippedError, MissingPackageError)):
        return Row(group, name, SKIPPED, one_line(error))
    return Row(group, name, FAILED, f"{type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, cut where it is very long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def exit_status(rows: Iterable[Row]) -> int:
    """1 if any check failed, else 0."""
    return int(any(row.result == FAILED for row in rows))


def count_results(rows: Iterable[Row]) -> str:
    """How many were ok, failed, and were skipped, in words."""
    results = [row.result for row in rows]
    return f"{results.count(OK)} ok, {results.count(FAILED)} failed, {results.count(SKIPPED)} skipped"
