"""People followed through videos, with their key points and, where known, positions in space: COCO's form with tracks.

    {"images": [{"id": 7, "video_id": 1, "frame_id": 0, "width": 1280, "height": 720}, ...],
     "categories": [{"id": 1, "keypoints": [K names], "keypoints_3d": [K' names]}],
     "annotations": [{"image_id": 7, "track_id": 3, "keypoints": [x, y, v, ...], "keypoints_3d": [x, y, z, ...]}, ...]}

`keypoints_3d` are metres in the camera's frame, x to the right, y down, z away from it; from which point is free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.files import sha256_of
from edgepose.io.boxes import read_json
from edgepose.model.skeletons import SKELETONS, Skeleton, pairs_from_names


@dataclass(frozen=True)
class Track:
    """One person in T frames of one video.

    Attributes:
        name: video and track, for messages.
        frames: (T,) int64, rising.
        xy: (T, K, 2) float64, image px.
        scores: (T, K) float64: 0 where a point is not known.
        image_wh: the video's width and height, px.
        xyz: (T, K', 3) float64 metres; None where the file has no `keypoints_3d`.
    """

    name: str
    frames: np.ndarray
    xy: np.ndarray
    scores: np.ndarray
    image_wh: tuple[int, int]
    xyz: np.ndarray | None

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Tracks:
    """What one file says.

    Attributes:
        name, sha256: the file's name, and of its bytes.
        points: the skeleton of `xy`.
        positions: the skeleton of `xyz`; None where there are none.
        tracks: at least one.
    """

    name: str
    sha256: str
    points: Skeleton
    positions: Skeleton | None
    tracks: tuple[Track, ...]


def read_tracks(path: Path, *, with_positions: bool = False) -> Tracks:
    """Read and check a file of tracks.

    Args:
        with_positions: positions in space are wanted.

    Raises:
        InputError: the file is missing, damaged or of another form, or has no track, or no positions where wanted.
    """
    path = Path(path)
    data = read_json(path)
    try:
        if not isinstance(data, Mapping):
            raise ValueError(f"an object was wanted, found {type(data).__name__}")
        category = next((entry for entry in data["categories"] if entry.get("keypoints")), None)
        if category is None:
            raise ValueError("no category names its keypoints")
        points = _skeleton(category["keypoints"], path.name)
        positions = _skeleton(category["keypoints_3d"], path.name) if category.get("keypoints_3d") else None
        if with_positions and positions is None:
            raise ValueError("the category has no keypoints_3d")
        images = {image["id"]: image for image in data["images"]}
        seen: dict[tuple[Any, Any], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
        for annotation in data["annotations"]:
            if annotation["image_id"] not in images:
                raise ValueError(f"an annotation is of image {annotation['image_id']}, not listed")
            image = images[annotation["image_id"]]
            seen[image.get("video_id", 0), annotation["track_id"]].append((int(image["frame_id"]), annotation))
        tracks = tuple(_track(key, entries, images, points, positions) for key, entries in seen.items())
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path}: not tracks in COCO's form ({reason}); wanted: images with frame_id, width and height, categories "
            f"with keypoints, annotations with image_id, track_id, keypoints{' and keypoints_3d' * with_positions}"
        ) from error
    if not tracks:
        raise InputError(f"{path}: there is nobody in it; wanted: at least one track")
    return Tracks(path.name, sha256_of(path), points, positions, tracks)


def _skeleton(names: Any, file: str) -> Skeleton:
    """The known skeleton of these names, or one of theirs, which is called after the file."""
    keypoints = tuple(map(str, names))
    known = next((skeleton for skeleton in SKELETONS.values() if skeleton.keypoints == keypoints), None)
    return known or Skeleton(f"{file}'s {len(keypoints)}", keypoints, pairs_from_names(keypoints))


def _track(
    key: tuple[Any, Any],
    entries: list[tuple[int, Mapping[str, Any]]],
    images: Mapping[Any, Mapping[str, Any]],
    points: Skeleton,
    positions: Skeleton | None,
) -> Track:
    name = f"track {key[1]} of video {key[0]}"
    entries = sorted(entries, key=lambda entry: entry[0])
    frames = np.array([frame for frame, _ in entries], np.int64)
    if (np.diff(frames) == 0).any():
        raise ValueError(f"{name} is twice in frame {frames[1:][np.diff(frames) == 0][0]}")
    sizes = {(int(image["width"]), int(image["height"])) for image in (images[e["image_id"]] for _, e in entries)}
    if len(sizes) != 1 or min(min(size) for size in sizes) < 1:
        raise ValueError(f"{name} is in images of sizes {sorted(sizes)}; wanted: one size")
    keypoints = np.array([_numbers(entry, "keypoints", 3 * len(points)) for _, entry in entries])
    keypoints = keypoints.reshape(len(entries), len(points), 3)
    xyz = None
    if positions is not None:
        xyz = np.array([_numbers(entry, "keypoints_3d", 3 * len(positions)) for _, entry in entries])
        xyz = xyz.reshape(len(entries), len(positions), 3)
    return Track(name, frames, keypoints[..., :2], keypoints[..., 2], sizes.pop(), xyz)


def _numbers(entry: Mapping[str, Any], key: str, count: int) -> np.ndarray:
    values = np.array(entry[key], dtype=np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{key} of image {entry['image_id']} must be {count} finite numbers")
    return values
