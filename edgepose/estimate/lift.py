"""From one person's key points in the frames of a video to positions in space: a lifter run over a track."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.backends import load_runtime
from edgepose.errors import ModelFileError
from edgepose.model.heads.lift import Lift
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import Skeleton
from edgepose.stages.conversion import convert_keypoints
from edgepose.stages.lifting import fill_gaps, mirrored, to_metres, to_units, windows_of
from edgepose.stages.poses import Poses

BATCH = 256  # windows a run

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Lifter:
    """A lifter that is ready to run.

    Attributes:
        run: arrays by name in, arrays by name out: `points` (n, frames, K, 2) to `xyz` (n, K', 3).
        head: how its key points are scaled.
        points: the skeleton that goes in.
        skeleton: the skeleton that comes out.
    """

    run: Run
    head: Lift
    points: Skeleton
    skeleton: Skeleton

    def track(
        self,
        frames: np.ndarray,
        xy: np.ndarray,
        scores: np.ndarray,
        skeleton: Skeleton,
        image_wh: tuple[int, int],
        *,
        flip_test: bool = False,
        newest: bool = False,
    ) -> np.ndarray:
        """Positions of one person in each frame in which it was found.

        A track shorter than the window is padded with its first and last frame, as published. Where it was lost for
        more frames than a window has, it is lifted in parts.

        Args:
            frames: (T,) numbers of the frames, rising; T may be 0.
            xy: (T, K, 2) image px. What is NaN, or has score 0, was not found: it is taken from before and after.
            scores: (T, K).
            skeleton: of xy and scores; it must tell the lifter's `points`.
            image_wh: width and height of the video's images, px.
            flip_test: average with the mirrored person, as VideoPose3D's figures do; "statistics" know no mirror.
            newest: the last frame's alone; T must not be 0.

        Returns:
            (T, K', 3) or with `newest` (1, K', 3) float32 metres around the root; NaN for a track in which a key point
            was never found.

        Raises:
            ModelFileError: the lifter wants key points that the skeleton does not tell.
        """
        lifted = [np.zeros((0, len(self.skeleton), 3), np.float32)]
        for inputs in self.windows(frames, xy, scores, skeleton, image_wh, newest=newest):
            if np.isnan(inputs).any():
                lifted.append(np.full((len(inputs), len(self.skeleton), 3), np.nan, np.float32))
                continue
            xyz = self._positions(inputs)
            if flip_test and self.head.units != "statistics":
                xyz = (xyz + mirrored(self._positions(mirrored(inputs, self.points)), self.skeleton)) / 2
            lifted.append(xyz)
        return np.concatenate(lifted)

    def windows(
        self,
        frames: np.ndarray,
        xy: np.ndarray,
        scores: np.ndarray,
        skeleton: Skeleton,
        image_wh: tuple[int, int],
        *,
        newest: bool = False,
    ) -> Iterator[np.ndarray]:
        """What the network is given for each frame of a track, as `track` takes it.

        Yields:
            (n, frames, K, 2) float32, n at most BATCH; NaN where a key point of the track was never found.
        """
        points, certain = convert_keypoints(np.asarray(xy, np.float64), scores, skeleton, self.points)
        parts = np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > self.head.frames) + 1)
        for part in parts[-1:] if newest else parts:
            if not len(part):
                continue
            dense = fill_gaps(frames[part], points[part], certain[part] > 0)
            windows = windows_of(len(dense), self.head)[frames[part] - frames[part[0]]]
            windows = windows[-1:] if newest else windows
            for first in range(0, len(windows), BATCH):
                yield to_units(dense[windows[first : first + BATCH]], self.head, self.points, image_wh)

    def _positions(self, inputs: np.ndarray) -> np.ndarray:
        return to_metres(self.run({"points": inputs})["xyz"], self.head, self.skeleton)


def open_lifter(path: Path, *, backend: str | None = None, threads: int | None = None) -> Lifter:
    """Open a lifter's ONNX, its passport beside it.

    Args:
        backend, threads: see `load_runtime`.

    Raises:
        ModelFileError: the file is missing, damaged or no lifter, or nobody knows its statistics.
        BackendError, MissingPackageError: see `load_runtime`.
    """
    passport = read_passport(path)
    head = passport.spec.head
    if not isinstance(head, Lift):
        raise ModelFileError(f"{path} lifts no key points into space (its head is {head.kind}): give a lifter")
    if head.units == "statistics" and not head.statistics:
        raise ModelFileError(
            f"{path} was exported without the means and deviations of its training, so that its positions have no "
            f"unit: export it again with --statistics FILE"
        )
    runtime = load_runtime(path, backend=backend, threads=threads, exact=True)
    return Lifter(runtime.run, head, head.points_skeleton, passport.spec.skeleton)


def lift_frames(
    lifter: Lifter,
    frames: Sequence[Poses],
    skeleton: Skeleton,
    image_wh: tuple[int, int],
    *,
    numbers: Sequence[int] | None = None,
    track_ids: Sequence[np.ndarray] | None = None,
    flip_test: bool = False,
) -> list[np.ndarray]:
    """Positions of everybody in each frame of a video.

    Args:
        frames: the poses of each frame, in their order.
        skeleton: of the poses.
        image_wh: width and height of the frames, px.
        numbers: of the frames, rising; None: 0, 1, 2 ...
        track_ids: for each frame (N,) who is who. None: nobody knows. Then a video with one person a frame at most is
            taken for that of one person; of several people each is lifted from its own frame alone.
        flip_test: see `Lifter.track`.

    Returns:
        For each frame (N, K', 3) float32 metres; NaN for a person of whom a key point was never found.
    """
    owners = _owners(frames) if track_ids is None else track_ids
    places: dict[int, list[tuple[int, int]]] = {}  # who -> frame and row
    for frame, who in enumerate(owners):
        for row, person in enumerate(who):
            places.setdefault(int(person), []).append((frame, row))
    found = [np.full((len(poses), len(lifter.skeleton), 3), np.nan, np.float32) for poses in frames]
    for track in places.values():
        when = np.array([frame if numbers is None else numbers[frame] for frame, _ in track])
        xy = np.stack([frames[frame].xy[row] for frame, row in track])
        scores = np.stack([frames[frame].scores[row] for frame, row in track])
        xyz = lifter.track(when, xy, scores, skeleton, image_wh, flip_test=flip_test)
        for (frame, row), positions in zip(track, xyz, strict=True):
            found[frame][row] = positions
    return found


def _owners(frames: Sequence[Poses]) -> list[np.ndarray]:
    counts = [len(poses) for poses in frames]
    if max(counts, default=0) <= 1:
        return [np.zeros(count, int) for count in counts]
    first = np.concatenate([[0], np.cumsum(counts)])
    return [np.arange(start, start + count) for start, count in zip(first, counts, strict=False)]
