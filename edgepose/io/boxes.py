"""Person boxes from COCO annotations or COCO detection results, matched to image files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.files import parse_json, read_input
from edgepose.stages.frames import Frame, hw_of
from edgepose.stages.geometry import usable_boxes

PERSON = 1  # COCO's category
MOST = 1000  # boxes of one image: a bad detector writes tens of thousands, and each costs a crop


@dataclass(frozen=True)
class ImageBoxes:
    """The people of one image.

    Attributes:
        path: the image file.
        image_id: COCO's id of the image; without a boxes file the number that its name is, or None.
        boxes_xyxy: (N, 4) float32, image px, all finite and with an area; None: the whole image is one person.
        box_scores: (N,) float32; 1 where the file has none.
        unusable: boxes left out: not finite, without area, or less sure than MOST others.
    """

    path: Path
    image_id: int | None
    boxes_xyxy: np.ndarray | None
    box_scores: np.ndarray
    unusable: int = 0

    def boxes_in(self, image: np.ndarray | Frame) -> np.ndarray:
        """(N, 4) float32: the boxes, or the whole of this (H, W, 3) image where no boxes were given."""
        if self.boxes_xyxy is not None:
            return self.boxes_xyxy
        height, width = hw_of(image)
        return np.array([[0, 0, width, height]], np.float32)


def boxes_for_images(
    paths: Sequence[Path],
    boxes_file: Path | None,
    image_ids: Sequence[int] | None = None,
    *,
    min_score: float = -math.inf,
) -> list[ImageBoxes]:
    """The person boxes of each image, in the order of `paths`.

    Args:
        paths: image files. They are matched to the boxes file by its `images[].file_name` (of several of the same
            name, the one whose folders agree furthest), or else by the id that their name is: 000000000139.jpg is
            image 139.
        boxes_file: COCO annotations ({"images", "annotations"}; crowds are left out) or COCO detection results
            ([{"image_id", "bbox", "score"}, ...]); other categories than person (1) are left out.
            None: each image is one person.
        image_ids: the images' ids where they are known; else their names are taken for them.
        min_score: boxes of a lower score are left out.

    Raises:
        InputError: the file is missing, damaged or of another form, is about other images, or several of its images
            fit a path equally well.
    """
    known_ids = [id_of_name(path) for path in paths] if image_ids is None else list(image_ids)
    if boxes_file is None:
        one = np.ones(1, np.float32)
        return [ImageBoxes(path, known, None, one) for path, known in zip(paths, known_ids, strict=True)]
    names, boxes = _read_boxes(boxes_file, min_score)
    found = [_id_of(path, names, known, boxes_file) for path, known in zip(paths, known_ids, strict=True)]
    known = {image_id for named in names.values() for _, image_id in named} | set(boxes)
    if paths and known and not known.intersection(found):  # a file without anybody is about any image
        raise InputError(
            f"{boxes_file} knows none of the {len(paths)} images ({paths[0].name}, …): its file_name or image_id "
            f"must be theirs"
        )
    return [
        _image_boxes(path, image_id, [] if image_id is None else boxes.get(image_id, []))
        for path, image_id in zip(paths, found, strict=True)
    ]


def boxes_of_frames(video: Path, boxes_file: Path, *, min_score: float = -math.inf) -> dict[int, ImageBoxes]:
    """The person boxes of each frame that the file speaks of, by the frame's number: its image_id, from 0.

    Boxes of a score below `min_score` are left out.

    Raises:
        InputError: the file is missing, damaged or of another form.
    """
    _, boxes = _read_boxes(boxes_file, min_score)
    return {frame: _image_boxes(video, frame, rows) for frame, rows in boxes.items()}


def read_json(path: Path) -> Any:
    """Parse a JSON file that the user gave; InputError if it is missing, empty, too large or no JSON.

    NaN and infinities are left to whoever knows what they stand for: detectors write them.
    """
    data = read_input(path)
    try:
        return parse_json(data, nan=True)
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def id_of_name(path: Path) -> int | None:
    """The number that a file's name is, as in COCO: 000000000139.jpg -> 139; at most 18 digits."""
    return int(path.stem) if re.fullmatch("[0-9]{1,18}", path.stem) else None


Names = dict[str, list[tuple[Path, int]]]  # base name -> the images of that name: file_name and id


def _id_of(path: Path, names: Names, known: int | None, boxes_file: Path) -> int | None:
    """The id of the image whose file_name agrees with the path furthest from its end; else the known one."""
    agreement: dict[int, int] = {}
    for name, image_id in names.get(path.name, ()):
        same = [one == other for one, other in zip(path.absolute().parts[::-1], name.parts[::-1], strict=False)]
        agreement[image_id] = max(agreement.get(image_id, 0), [*same, False].index(False))
    furthest = [image_id for image_id, count in agreement.items() if count == max(agreement.values())]
    if len(furthest) > 1:
        raise InputError(
            f"{boxes_file} has {len(furthest)} images that {path} may be (ids {furthest[0]}, {furthest[1]}, …): "
            f"give the images in folders like those of its file_name"
        )
    return furthest[0] if furthest else known


def _read_boxes(boxes_file: Path, min_score: float) -> tuple[Names, dict[int, list[list[float]]]]:
    data = read_json(boxes_file)
    try:
        return _parse(data, min_score)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{boxes_file}: not COCO annotations or detection results ({reason}); wanted: a list of objects with "
            f"image_id, bbox (left, top, width, height) and score, or an object with images and annotations"
        ) from error


def _parse(data: Any, min_score: float) -> tuple[Names, dict[int, list[list[float]]]]:
    """The images' names, and image id -> rows of left, top, width, height, score."""
    names: Names = {}
    if isinstance(data, dict):
        for image in data["images"]:
            name = Path(image["file_name"])
            names.setdefault(name.name, []).append((name, int(image["id"])))
        data = data["annotations"]
    if not isinstance(data, list):
        raise TypeError(f"a list of boxes was wanted, found {type(data).__name__}")
    boxes: dict[int, list[list[float]]] = {}
    for index, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise TypeError(f"entry {index} is {type(entry).__name__}, an object was wanted")
        of_image = boxes.setdefault(int(entry["image_id"]), [])  # the file knows the image, whoever is in it
        if entry.get("iscrowd", 0) or entry.get("category_id", PERSON) != PERSON:
            continue
        if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
            raise ValueError(f"bbox of entry {index} must be 4 numbers")
        left, top, width, height = map(float, entry["bbox"])
        score = float(entry.get("score", 1))
        if not score < min_score:  # NaN is left to be counted as unusable
            of_image.append([left, top, width, height, score])
    return names, boxes


def _image_boxes(path: Path, image_id: int | None, rows: list[list[float]]) -> ImageBoxes:
    table = np.array(rows, np.float64).reshape(-1, 5)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    usable = np.flatnonzero(usable_boxes(xyxy) & (np.abs(table[:, 4]) <= np.finfo(np.float32).max))
    surest = np.sort(usable[np.argsort(-table[usable, 4], kind="stable")[:MOST]])
    return ImageBoxes(
        path, image_id, xyxy[surest].astype(np.float32), table[surest, 4].astype(np.float32), len(table) - len(surest)
    )
