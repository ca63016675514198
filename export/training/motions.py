"""Motion capture seen by made-up cameras and a made-up detector: what a lifter is trained and measured on.

The file of motions has `names` and `parents` of 15 key points, and for each motion NAME (T, 15, 3) metres with y up and
NAME_dt (T,) seconds a frame, as made of the motions of DeepMimic (Peng et al., SIGGRAPH 2018) in Bullet's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.errors import InputError
from edgepose.model.skeletons import BODY15, COCO17, Skeleton, pairs_from_names
from edgepose.stages.conversion import convert_keypoints

HELD_OUT = ("walk", "kick", "dance_b", "getup_facedown")  # never trained on
_NAMES = {"root": "pelvis", "chest": "spine", "neck": "thorax"}  # the file's for BODY15's

_LIMBS = tuple(name for name in COCO17.keypoints if name in BODY15.keypoints)
FOUND = Skeleton("limbs12", _LIMBS, pairs_from_names(_LIMBS))  # what a detector finds of a body without a face
_SIGMAS = np.array([COCO17.sigmas[COCO17.keypoints.index(name)] for name in _LIMBS])
_FOUND_AT = [BODY15.keypoints.index(name) for name in _LIMBS]
PERSON_SIZE = 0.79  # m, square root of the area of a grown person seen from the front (0.53 of the box)


@dataclass(frozen=True)
class Motion:
    """One motion: (T, 15, 3) metres in BODY15's order, y up, and seconds from one frame to the next."""

    name: str
    positions: np.ndarray
    frame_s: float

    @property
    def length_s(self) -> float:
        """From the first frame to the last."""
        return (len(self.positions) - 1) * self.frame_s

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """(..., 15, 3): positions at these times, between frames interpolated, beyond an end that end's."""
        place = np.clip(times_s / self.frame_s, 0, len(self.positions) - 1)
        low = np.minimum(place.astype(int), len(self.positions) - 2)
        share = (place - low)[..., None, None]
        return np.asarray(self.positions[low] * (1 - share) + self.positions[low + 1] * share)


def read_motions(path: Path) -> list[Motion]:
    """All motions of a file; InputError if it is none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = [_NAMES.get(name, name) for name in stored["names"].tolist()]
            order = [names.index(name) for name in BODY15.keypoints]
            motions = sorted(key for key in stored.files if f"{key}_dt" in stored.files)
            return [
                Motion(key, stored[key][:, order].astype(np.float64), float(stored[f"{key}_dt"][0])) for key in motions
            ]
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise InputError(
            f"{path}: not a file of motions ({error}); wanted: an .npz with names, NAME, NAME_dt"
        ) from error


def sample_windows(motions: Sequence[Motion], frames: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, frames, 15, 3) metres, y up: windows of random motions, 10 to 60 frames a second, half of them mirrored.

    A frame of any motion is as likely as any other. Near a motion's ends the window is padded with its first or last
    frame, as it is at run time.
    """
    lengths = np.array([motion.length_s for motion in motions])
    chosen = rng.choice(len(motions), count, p=lengths / lengths.sum())
    middle = rng.uniform(0, 1, count) * lengths[chosen]
    step = 1 / np.exp(rng.uniform(np.log(10), np.log(60), count))
    times = middle[:, None] + (np.arange(frames) - frames // 2) * step[:, None]
    windows = np.empty((count, frames, len(BODY15), 3))
    for index, motion in enumerate(motions):
        windows[chosen == index] = motion.at(times[chosen == index])
    mirrored = rng.random(count) < 0.5
    windows[mirrored] = (windows[mirrored] * (-1, 1, 1))[:, :, BODY15.flip_order]
    return windows


def with_other_bones(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The windows of other bodies: each bone longer or shorter by a few per cent, left and right alike."""
    factors = rng.normal(1, 0.05, (len(windows), len(BODY15)))
    factors = (factors + factors[:, BODY15.flip_order]) / 2
    result = windows.copy()
    for parent, child in BODY15.limbs:  # each limb starts where an earlier one ends
        bone = windows[:, :, child] - windows[:, :, parent]
        result[:, :, child] = result[:, :, parent] + bone * factors[:, child, None, None]
    return result


def seen_from(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, frames, 15, 3) metres in a camera's frame, x to the right, y down, z away from it: a random camera a window.

    From any side, 2.5 to 10 m away, looking somewhat up or down, a little tilted, the person not always in the middle.
    """
    count, middle = len(windows), windows.shape[1] // 2
    yaw = rng.uniform(-np.pi, np.pi, count)
    pitch, roll = rng.normal(np.radians(8), np.radians(12), count), rng.normal(0, np.radians(4), count)
    turned = _turn(roll, 2) @ _turn(pitch, 0) @ _turn(yaw, 1)
    centred = windows - windows[:, middle : middle + 1, :1]
    camera = centred * (1, -1, -1) @ turned.transpose(0, 2, 1)[:, None]
    away = np.exp(rng.uniform(np.log(2.5), np.log(10), count))
    beside = rng.uniform(-0.3, 0.3, (count, 2)) * away[:, None]
    return camera + np.concatenate([beside, away[:, None]], axis=1)[:, None, None]


def _turn(angle: np.ndarray, axis: int) -> np.ndarray:
    """(n, 3, 3) rotations about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first], matrix[:, first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def detected(camera: np.ndarray, level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, frames, 15, 2): the limbs' points in the picture as a detector errs, in focal lengths; the trunk's are made.

    The error of a point is `level` times COCO's constant for it times the person's size; it lasts from frame to frame.
    Where the level is not 0, a point is now and then far off for some frames, or the left and right legs or arms
    are exchanged.

    Args:
        camera: (n, frames, 15, 3) as `seen_from` gives it.
        level: (n,) 0 is exact; 0.65 gives object key-point similarities around 0.9.
    """
    exact = camera[..., :2] / np.maximum(camera[..., 2:], 0.5)
    points = exact[:, :, _FOUND_AT]
    size = PERSON_SIZE / camera[..., 0, 2].mean(axis=1)
    count, frames = points.shape[:2]
    lasting = rng.uniform(0.2, 0.9, (count, 1, 1))
    error = rng.normal(size=points.shape)
    for frame in range(1, frames):
        error[:, frame] = lasting * error[:, frame - 1] + np.sqrt(1 - lasting**2) * error[:, frame]
    points = points + error * (_SIGMAS[:, None] * (level * size)[:, None, None, None])
    noisy = level > 0
    for _ in range(2):
        some, when, which = _some_frames(rng, count, frames, 0.25)
        shift = rng.normal(0, 0.25, (count, 1, 2)) * size[:, None, None]
        points[np.arange(count), :, which] += np.where((some & noisy)[:, None, None] & when[..., None], shift, 0)
    some, when, which = _some_frames(rng, count, frames, 0.1)
    legs = np.array([name.endswith(("hip", "knee", "ankle")) for name in _LIMBS])
    exchanged = when[:, :, None] & (some & noisy)[:, None, None] & (legs == (which % 2 == 0)[:, None])[:, None]
    points = np.where(exchanged[..., None], points[:, :, FOUND.flip_order], points)
    return convert_keypoints(points, np.ones(points.shape[:-1]), FOUND, BODY15)[0]


def _some_frames(
    rng: np.random.Generator, count: int, frames: int, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which windows (n,), which of their frames (n, frames) - one to six in a row - and which point (n,)."""
    first = rng.integers(-3, frames, (count, 1))
    when = (np.arange(frames) >= first) & (np.arange(frames) < first + rng.integers(1, 7, (count, 1)))
    return rng.random(count) < share, when, rng.integers(len(FOUND), size=count)
