"""What an `infer` did, and how its results are written whatever ends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_records import missing_points
from edgepose.infer.stream import SourceReport
from edgepose.io.images import turned_warning
from edgepose.io.keypoints import PARTIAL, WriteRecord, to_file, to_stream
from edgepose.io.people import left_out
from edgepose.io.table import to_table
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import ModelSpec

# on a GPU crop to download are its own times, while the CPU reads and draws other frames
STAGES = (
    "read", "letterbox", "detect", "boxes", "upload", "crop", "network", "decode", "network+decode", "scales",
    "peaks", "grouping", "download", "lift", "draw", "write",
)  # fmt: skip
SHOWN = 10  # unreadable files that are named one by one
MISSING_SHOWN = 4  # key points that are named where people could not be lifted


@dataclass
class InferReport:
    """What `infer` did.

    Attributes:
        images: images and video frames that were read.
        people: boxes in them that key points were found for.
        unreadable: a line for each file that could not be read to its end, or whose overlay could not be written.
        unusable_boxes: boxes left out; see `PeopleBoxes`.
        turned: images whose EXIF notes a rotation, which was ignored.
        seconds: time of each of STAGES that was measured.
        results: the JSON file written, if any.
        overlays: pictures and videos written.
        network: what the network was run by and computed in.
        sources: what came of each video, camera or stream whose people were found and followed.
        unlifted: people whose positions a lifter could not tell; in a video each of their frames counts.
        missing: the lifter's key points that were not found of them, and of how many.
        not_finite: those of them of whom no key point was missing.
    """

    images: int = 0
    people: int = 0
    unreadable: list[str] = field(default_factory=list)
    unusable_boxes: int = 0
    turned: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    results: Path | None = None
    overlays: list[Path] = field(default_factory=list)
    network: str = ""
    sources: list[SourceReport] = field(default_factory=list)
    unlifted: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    not_finite: int = 0

    def summary(self) -> str:
        """Counts, what was written, and a table of the stages' times."""
        written = [str(self.results)] if self.results else []
        if self.overlays:
            written.append(f"overlays in {self.overlays[0].parent}")
        counts = f"images: {self.images}, people: {self.people}, network: {self.network}"
        lines = [counts + (f"; wrote {' and '.join(written)}" if written else "")]
        lines += [source.summary() for source in self.sources]
        width = max(map(len, ("stage", *self.seconds)))
        lines.append(f"{'stage':<{width}} {'ms/image':>9} {'ms/person':>10}")
        for name, seconds in (*self.seconds.items(), ("sum", sum(self.seconds.values()))):
            per_person = f"{1e3 * seconds / self.people:10.2f}" if self.people else f"{'-':>10}"
            lines.append(f"{name:<{width}} {1e3 * seconds / max(1, self.images):9.2f} {per_person}")
        return "\n".join(lines)

    def reached(self) -> str:
        """How far a run came that did not end, and where its key points are."""
        kept = f" (their key points: {self.results.with_name(PARTIAL)})" if self.results and self.people else ""
        return f"after {self.images} images or frames{kept}"

    def warnings(self) -> list[str]:
        """What the user should know besides the results."""
        lines = self.unreadable[:SHOWN]
        if len(self.unreadable) > SHOWN:
            lines.append(f"… and {len(self.unreadable) - SHOWN} more files that could not be read")
        lines += [note for source in self.sources for note in source.notes]
        lines += left_out(self.unusable_boxes)
        if self.turned:
            lines.append(turned_warning(self.turned))
        return lines + self._without_positions()

    def _without_positions(self) -> list[str]:
        """Why a lifter gave some people no positions, and what to do: a line for each reason."""
        lines = []
        if self.missing:
            often = [f"{name} of {count}" for name, count in self.missing.most_common()]
            shown = len(often) if len(often) <= MISSING_SHOWN + 1 else MISSING_SHOWN  # never "1 others"
            more = f" and {len(often) - shown} others" if len(often) > shown else ""
            lines.append(
                f"{self.unlifted - self.not_finite} of {self.people} people have no xyz: key points that the lifter "
                f"wants were not found ({', '.join(often[:shown])}{more}). Show whole people, or take a network for "
                f"crops of people, which guesses hidden key points"
            )
        if self.not_finite:
            lines.append(
                f"{self.not_finite} of {self.people} people have no xyz: the lifter gave numbers that are not finite. "
                f"Take its FP32 file"
            )
        return lines


def open_results(
    stack: ExitStack,
    report: InferReport,
    spec: ModelSpec,
    lifter: Lifter | None = None,
    *,
    folder: Path | None,
    stream: TextIO | None,
    table: bool,
) -> WriteRecord:
    """Where the records go: the stream if there is one, else keypoints.json in the folder, which `stack` finishes."""
    if stream is not None:
        in_space = lifter.skeleton if lifter is not None else spec.skeleton if spec.gives_depth else None
        names = () if in_space is None else in_space.keypoints
        write = to_table(stream, spec.skeleton.keypoints, names) if table else to_stream(stream)
    elif folder is None:
        raise ValueError("infer needs a folder or a stream to write to")
    else:
        report.results = folder / "keypoints.json"
        write = stack.enter_context(to_file(report.results))
    return write if lifter is None else _counting_unlifted(write, report, spec.skeleton, lifter.points)


def _counting_unlifted(write: WriteRecord, report: InferReport, skeleton: Skeleton, points: Skeleton) -> WriteRecord:
    """Write records of lifted people, and note in the report who got no positions."""

    def counting(record: dict[str, Any]) -> None:
        for person in record.get("people", ()):
            if person["xyz"] is None:
                missing = missing_points(person, skeleton, points)
                report.unlifted += 1
                report.missing.update(missing)
                report.not_finite += not missing
        write(record)

    return counting


@contextmanager
def saying_how_far(report: InferReport) -> Iterator[None]:
    """What ends the body after its first image says how far it came, and where its key points are."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(report.reached()) from None
    except OSError as error:
        if report.images and error.strerror:
            error.strerror += f" {report.reached()}"
        raise
    except EdgeposeError as error:
        if report.images:
            error.args = (f"{error}; stopped {report.reached()}",)
        raise


def check_something_read(report: InferReport, inputs: int) -> None:
    """InputError where not one of so many inputs could be read."""
    if inputs and not report.images:
        more = f", nor {inputs - 1} others" if inputs > 1 else ""
        raise InputError(f"nothing could be read: {report.unreadable[0]}{more}")
