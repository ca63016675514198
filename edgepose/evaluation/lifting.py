"""How exact lifters are: positions in space found from tracks, compared with the true ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.estimate.lift import Lifter, open_lifter
from edgepose.evaluation.position_errors import mpjpe, n_mpjpe, p_mpjpe
from edgepose.evaluation.report import Measured, versions
from edgepose.io.tracks import Track, Tracks, read_tracks
from edgepose.model.passport import read_passport
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


@dataclass(frozen=True)
class LiftEvaluation:
    """What `evaluate_lifter_files` measured: a `Report`. All poses of all tracks are used, so `unreadable` is empty."""

    models: list[Path]
    sha256s: list[str]
    figures: list[LiftFigures]
    conditions: dict[str, Any]
    unreadable: list[str] = field(default_factory=list)

    def rows(self) -> list[list[str]]:
        """A row for each kind of error, a column for each file."""
        rows = [
            ["", *(model.name for model in self.models)],
            ["MPJPE mm", *(f"{found.mpjpe:.1f}" for found in self.figures)],
            ["N-MPJPE mm", *(f"{found.n_mpjpe:.1f}" for found in self.figures)],
            ["P-MPJPE mm", *(f"{found.p_mpjpe:.1f}" for found in self.figures)],
        ]
        if any(found.shift is not None for found in self.figures):
            shifts = ("" if found.shift is None else f"{found.shift:.2f}" for found in self.figures)
            rows.append(["shift mean mm", *shifts])
        return rows

    def held_for(self) -> list[str]:
        """How many poses, and what a shift is."""
        first = self.figures[0]
        lost = f"; {first.lost} more lack a key point throughout their track" if first.lost else ""
        shift = "; shift: from the first file's key points" if len(self.figures) > 1 else ""
        return [f"{first.poses} pose{'s' * (first.poses != 1)}{lost}{shift}"]

    def notes(self) -> list[str]:
        """Nothing besides."""
        return []

    def measured(self) -> Iterator[Measured]:
        """Each file's errors."""
        for model, sha256, found in zip(self.models, self.sha256s, self.figures, strict=True):
            errors = {"MPJPE_mm": found.mpjpe, "N-MPJPE_mm": found.n_mpjpe, "P-MPJPE_mm": found.p_mpjpe}
            yield Measured(model, sha256, self.conditions, {"poses": found.poses, **errors})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        pairs = zip(self.models, self.figures, strict=True)
        models = [{"model": model.name, **asdict(found)} for model, found in pairs]
        return {"conditions": self.conditions, "versions": versions(), "models": models, "unreadable": []}


def evaluate_lifter_files(
    models: Sequence[Path],
    annotations_3d: Path,
    *,
    flip_test: bool = False,
    backend: str | None = None,
    threads: int | None = None,
) -> LiftEvaluation:
    """Lift the same tracks with each file, and compare with the true positions.

    Args:
        models: lifters as ONNX, with passports.
        annotations_3d: tracks with positions; docs/lifting.md says their form.
        backend, threads: as `load_runtime` takes them.

    Raises:
        InputError: the tracks cannot be read, or no pose could be lifted.
        ModelFileError, BackendError, MissingPackageError: from `open_lifter`.
    """
    tracks = read_tracks(annotations_3d, with_positions=True)
    hashes = [read_passport(path).sha256 for path in models]
    lifters = [open_lifter(path, backend=backend, threads=threads) for path in models]
    figures = evaluate_lifters(lifters, tracks, flip_test=flip_test)
    conditions = {"annotations": tracks.name, "annotations_sha256": tracks.sha256, "flip_test": flip_test}
    return LiftEvaluation(list(models), hashes, figures, conditions)


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
