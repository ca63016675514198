"""How exact lifters are: positions in space found from tracks, compared with the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepose.errors import InputError
from edgepose.estimate.lift import Lifter
from edgepose.evaluation.position_errors import mpjpe, n_mpjpe, p_mpjpe
from edgepose.files import locked
from edgepose.io.tracks import Track, Tracks
from edgepose.model.passport import read_passport, write_passport
from edgepose.stages.conversion import convert_keypoints

MM = 1000.0


@dataclass(frozen=True)
class LiftFigures:
    """Errors of one lifter, each the mean over all poses, mm.

    Attributes:
        mpjpe: mean distance of a pose's key points from the true ones, both relative to the root.
        n_mpjpe: the same after each pose was scaled to fit best.
        p_mpjpe: the same after each pose was scaled, turned and moved to fit best.
        poses: how many poses that is.
        lost: poses without positions: a key point of their track was never found.
        shift: mean distance of its positions from the first lifter's; None for the first.
        largest_shift: the largest of one key point.
    """

    mpjpe: float
    n_mpjpe: float
    p_mpjpe: float
    poses: int
    lost: int
    shift: float | None = None
    largest_shift: float | None = None


def evaluate_lifters(lifters: Sequence[Lifter], tracks: Tracks, *, flip_test: bool = False) -> list[LiftFigures]:
    """The errors of each lifter on the same tracks.

    Args:
        tracks: with positions.

    Raises:
        ModelFileError: a lifter is for key points that the tracks do not tell.
        InputError: no pose could be lifted.
    """
    figures = []
    first: np.ndarray | None = None
    for lifter in lifters:
        found = np.concatenate([_lift(lifter, track, tracks, flip_test) for track in tracks.tracks])
        truth = np.concatenate([_truth(lifter, track, tracks) for track in tracks.tracks])
        known = np.isfinite(found).all(axis=(1, 2))
        if not known.any():
            raise InputError(f"{tracks.name}: in each of its tracks a key point is missing throughout; nothing to lift")
        shift = None
        if first is not None and first.shape == found.shape:
            shift = np.linalg.norm((found - first)[known & np.isfinite(first).all(axis=(1, 2))], axis=2)
        first = found if first is None else first
        pair = found[known], truth[known]
        moved = (None, None) if shift is None else (MM * float(shift.mean()), MM * float(shift.max()))
        figures.append(
            LiftFigures(
                MM * float(mpjpe(*pair).mean()),
                MM * float(n_mpjpe(*pair).mean()),
                MM * float(p_mpjpe(*pair).mean()),
                int(known.sum()),
                int((~known).sum()),
                *moved,
            )
        )
    return figures


def _lift(lifter: Lifter, track: Track, tracks: Tracks, flip_test: bool) -> np.ndarray:
    """(T, K, 3) float64 metres around the root."""
    xyz = lifter.track(track.frames, track.xy, track.scores, tracks.points, track.image_wh, flip_test=flip_test)
    return xyz.astype(np.float64)


def _truth(lifter: Lifter, track: Track, tracks: Tracks) -> np.ndarray:
    """(T, K, 3) metres around the root, in the lifter's order."""
    assert tracks.positions is not None
    assert track.xyz is not None
    xyz, _ = convert_keypoints(track.xyz, np.ones(track.xyz.shape[:2]), tracks.positions, lifter.skeleton)
    root = lifter.skeleton.keypoints.index(lifter.head.root)
    return xyz - xyz[:, root : root + 1]


def record_errors(
    engines: Sequence[Path], figures: Sequence[LiftFigures], tracks: Tracks, *, flip_test: bool = False
) -> None:
    """Append each file's errors to its passport; those measured before under the same conditions give way.

    Raises:
        OSError, ModelFileError: a passport cannot be written or read; it is then as it was.
    """
    conditions = {"annotations": tracks.name, "annotations_sha256": tracks.sha256, "flip_test": flip_test}
    for engine, found in zip(engines, figures, strict=True):
        entry = {
            **conditions,
            "poses": found.poses,
            "MPJPE_mm": found.mpjpe,
            "N-MPJPE_mm": found.n_mpjpe,
            "P-MPJPE_mm": found.p_mpjpe,
        }
        with locked(engine.parent):  # others that evaluate the same file add theirs
            passport = read_passport(engine)
            others = [old for old in passport.accuracy if any(old.get(key) != conditions[key] for key in conditions)]
            write_passport(engine, replace(passport, accuracy=[*others, entry]))


def table_of(engines: Sequence[Path], figures: Sequence[LiftFigures]) -> str:
    """The errors as text: a row for each kind, a column for each file."""
    rows = [
        ["", *(engine.name for engine in engines)],
        ["MPJPE mm", *(f"{found.mpjpe:.1f}" for found in figures)],
        ["N-MPJPE mm", *(f"{found.n_mpjpe:.1f}" for found in figures)],
        ["P-MPJPE mm", *(f"{found.p_mpjpe:.1f}" for found in figures)],
    ]
    if any(found.shift is not None for found in figures):
        rows.append(["shift mean mm", *("" if found.shift is None else f"{found.shift:.2f}" for found in figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lost = f"; {figures[0].lost} more lack a key point throughout their track" if figures[0].lost else ""
    return "\n".join([*lines, f"{figures[0].poses} poses{lost}; shift: from the first file's key points"])
