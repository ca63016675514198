"""How well ids stay on people whose boxes are in MOTChallenge's form: IDF1, switches and fragmentations.

    python -m edgepose.benchmarks.studies.mot SEQUENCE...            # folders with det/det.txt and gt/gt.txt
    python -m edgepose.benchmarks.studies.mot --render 8 SEQUENCE    # writes one with 8 rendered walkers first

A line of either file is `frame, id, left, top, width, height, confidence, class, visibility`, frames from 1 on
(Milan et al., "MOT16", 2016). Of the truth counts what has a confidence over 0 and,
where a class is given, is a pedestrian (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from edgepose.benchmarks.studies.tracking import Errors, Frame, measure, walk
from edgepose.errors import InputError
from edgepose.stages.tracking import Tracker

PEDESTRIAN = 1


def read_mot(sequence: Path, *, min_score: float = 0.0) -> list[Frame]:
    """A sequence's truth and detections of each frame up to the last one that has any; poses are left at 0.

    Args:
        sequence: the folder of det/det.txt and gt/gt.txt.
        min_score: detections of a lower confidence are left out.

    Raises:
        InputError: a file is missing, or a line of it has another form.
    """
    truth, found = _rows(sequence / "gt" / "gt.txt"), _rows(sequence / "det" / "det.txt")
    counts = truth[:, 6] > 0
    if truth.shape[1] > 7:
        counts &= truth[:, 7] == PEDESTRIAN
    truth, found = truth[counts], found[found[:, 6] >= min_score]
    last = int(max(truth[:, 0].max(initial=0), found[:, 0].max(initial=0)))
    frames = []
    for number in range(1, last + 1):
        real, seen = truth[truth[:, 0] == number], found[found[:, 0] == number]
        poses = np.zeros((len(seen), 1, 2))
        frames.append(Frame(real[:, 1].astype(int), _corners(real), _corners(seen), seen[:, 6], poses))
    return frames


def write_mot(frames: Sequence[Frame], sequence: Path) -> None:
    """Write a sequence that `read_mot` reads."""
    for name in ("gt", "det"):
        (sequence / name).mkdir(parents=True, exist_ok=True)
    with (sequence / "gt" / "gt.txt").open("w") as truth, (sequence / "det" / "det.txt").open("w") as found:
        for number, frame in enumerate(frames, 1):
            for person, box in zip(frame.ids, frame.boxes, strict=True):
                truth.write(f"{number},{person},{_size(box)},1,{PEDESTRIAN},1\n")
            for box, score in zip(frame.found, frame.scores, strict=True):
                found.write(f"{number},-1,{_size(box)},{score:.4f}\n")


def _rows(path: Path) -> np.ndarray:
    """(L, 7 or more) numbers of a file's lines."""
    try:
        lines = path.read_text().splitlines()
        rows = np.loadtxt(lines, delimiter=",", ndmin=2) if any(lines) else np.zeros((0, 7))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no lines of MOTChallenge's form can be read ({error})") from error
    if rows.shape[1] < 7:
        raise InputError(f"{path}: its lines have {rows.shape[1]} numbers, wanted at least 7")
    return rows


def _corners(rows: np.ndarray) -> np.ndarray:
    """(L, 4) left, top, right, bottom."""
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)


def _size(box: np.ndarray) -> str:
    left, top, right, bottom = box
    return f"{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f}"


@click.command()
@click.argument("sequences", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--render", type=click.IntRange(1), help="Write the sequence first: so many walkers at once.")
@click.option("--frames", type=click.IntRange(2), default=1500, show_default=True, help="Of a rendered one.")
@click.option("--min-score", type=float, default=0.0, show_default=True)
def main(sequences: tuple[Path, ...], render: int | None, frames: int, min_score: float) -> None:
    """Print IDF1, switches and fragmentations of each sequence."""
    click.echo(
        "| sequence | frames | IDF1 | switches | fragmentations | people |\n| --- | --- | --- | --- | --- | --- |"
    )
    for seed, sequence in enumerate(sequences):
        if render is not None:
            write_mot(list(walk(render, frames, Errors(), np.random.default_rng(seed))), sequence)
        read = read_mot(sequence, min_score=min_score)
        row = measure(read, Tracker(None))
        click.echo(
            f"| {sequence.name} | {len(read)} | {row['idf1']:.3f} | {row['num_switches']:.0f} | "
            f"{row['num_fragmentations']:.0f} | {row['num_unique_objects']:.0f} |"
        )


if __name__ == "__main__":
    main()
