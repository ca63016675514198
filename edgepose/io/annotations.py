"""People with labelled key points, from COCO key-point annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.files import sha256_of
from edgepose.io.boxes import read_json


@dataclass(frozen=True)
class AnnotatedImage:
    """The N people of one image, crowds among them.

    Attributes:
        image_id: COCO's id.
        file_name: as annotated, relative to the folder of images.
        size_wh: the image's width and height; None if the file does not tell.
        boxes_xywh: (N, 4) float64, left, top, width, height, px.
        areas: (N,) float64, the person's own area, px^2: OKS's scale.
        crowd: (N,) bool; a crowd is nobody's pose, and poses found in it count neither way.
        keypoints: (N, K, 3) float64: x, y, and 0 unlabelled, 1 labelled but hidden, 2 visible.
        head_sizes: (N,) float64, px: 0.6 times the diagonal of the annotation's "headbox" (x1, y1, x2, y2), as
            MPII measures heads; NaN where there is none.
    """

    image_id: int
    file_name: str
    size_wh: tuple[int, int] | None
    boxes_xywh: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    keypoints: np.ndarray
    head_sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def posed(self) -> np.ndarray:
        """(N,) bool: the people with at least one labelled key point, crowds left out."""
        return ~self.crowd & (self.keypoints[..., 2] > 0).any(axis=1)


@dataclass(frozen=True)
class Annotations:
    """What one annotation file says.

    Attributes:
        name: the file's name.
        sha256: of its bytes.
        keypoint_names: K names.
        images: in the file's order.
    """

    name: str
    sha256: str
    keypoint_names: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]


def read_annotations(path: Path) -> Annotations:
    """Read and check COCO key-point annotations.

    The key points' names come from the person category: its "keypoints", and any other list there whose name begins
    with "keypoints" (LSP's "keypoints14", say) when the annotations carry a list of the same name; where both name a
    key point, the first that is labelled counts. Where no category names any, as in WFLW's converted files, they are
    called "0", "1", ... as many as the first annotation with key points has.

    Raises:
        InputError: the file is missing, damaged or of another form, or annotates nobody.
    """
    path = Path(path)
    data = read_json(path)
    try:
        if not isinstance(data, Mapping):
            raise ValueError(f"an object was wanted, found {type(data).__name__}")
        category, lists = _person_category(data["categories"], data["annotations"])
        names = tuple(dict.fromkeys(name for group in lists.values() for name in group))
        by_image: dict[int, list[Mapping[str, Any]]] = {int(image["id"]): [] for image in data["images"]}
        if len(by_image) != len(data["images"]):
            raise ValueError("two images have the same id")
        for annotation in data["annotations"]:
            if annotation.get("category_id", category) != category:
                continue
            if annotation["image_id"] not in by_image:
                raise ValueError(f"annotation {annotation.get('id')} is of image {annotation['image_id']}, not listed")
            by_image[annotation["image_id"]].append(annotation)
        images = tuple(_image(image, by_image[int(image["id"])], lists, names) for image in data["images"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path}: not COCO key-point annotations ({reason}); wanted: images, categories with keypoints, "
            f"annotations with image_id, bbox, area, keypoints"
        ) from error
    if not any(image.posed.any() for image in images):
        raise InputError(f"{path}: nobody in it has a labelled key point; evaluate needs annotated people")
    return Annotations(path.name, sha256_of(path), names, images)


def _person_category(
    categories: list[Mapping[str, Any]], annotations: list[Mapping[str, Any]]
) -> tuple[int, dict[str, tuple[str, ...]]]:
    """The person category's id, and its lists of key-point names, by the lists' names."""
    posed = [category for category in categories if category.get("keypoints")]
    if not posed:
        labelled = next((annotation for annotation in annotations if annotation.get("keypoints")), None)
        if labelled is None:
            raise ValueError("no category names its keypoints, and no annotation has any")
        count = len(labelled["keypoints"]) // 3
        return int(labelled["category_id"]), {"keypoints": tuple(map(str, range(count)))}
    person = next((category for category in posed if category.get("name") == "person"), posed[0])
    lists = {}
    for key, value in person.items():
        if key.startswith("keypoints"):
            lists[key] = tuple(map(str, value))
            if len(set(lists[key])) != len(lists[key]):
                raise ValueError(f"{key} of the category names a key point twice")
    return int(person["id"]), lists


def _image(
    image: Mapping[str, Any],
    annotations: list[Mapping[str, Any]],
    lists: Mapping[str, tuple[str, ...]],
    names: tuple[str, ...],
) -> AnnotatedImage:
    count = len(annotations)
    keypoints = np.zeros((count, len(names), 3))
    for person, annotation in zip(keypoints, annotations, strict=True):
        _read_keypoints(person, annotation, lists, names)
    boxes = np.array([_numbers(annotation, "bbox", 4) for annotation in annotations]).reshape(count, 4)
    heads = np.full(count, np.nan)
    for i, annotation in enumerate(annotations):
        if "headbox" in annotation:
            x1, y1, x2, y2 = _numbers(annotation, "headbox", 4)
            heads[i] = 0.6 * np.hypot(x2 - x1, y2 - y1)
    return AnnotatedImage(
        image_id=int(image["id"]),
        file_name=str(image["file_name"]),
        size_wh=(int(image["width"]), int(image["height"])) if "width" in image and "height" in image else None,
        boxes_xywh=boxes,
        areas=np.array([_numbers(annotation, "area", 1)[0] for annotation in annotations]),
        crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], dtype=bool),
        keypoints=keypoints,
        head_sizes=heads,
    )


def _read_keypoints(
    person: np.ndarray, annotation: Mapping[str, Any], lists: Mapping[str, tuple[str, ...]], names: tuple[str, ...]
) -> None:
    """Fill one person's (K, 3) from each list that the annotation has."""
    if "keypoints" not in annotation:
        raise ValueError(f"annotation {annotation.get('id')} has no keypoints")
    for key, listed in lists.items():
        if key not in annotation:
            continue
        points = _numbers(annotation, key, 3 * len(listed)).reshape(-1, 3)
        for name, point in zip(listed, points, strict=True):
            row = person[names.index(name)]
            if row[2] <= 0 < point[2]:
                row[:] = point


def _numbers(annotation: Mapping[str, Any], key: str, count: int) -> np.ndarray:
    values = np.array(annotation[key], dtype=np.float64)
    if values.size != count or values.ndim > 1 or not np.isfinite(values).all():
        raise ValueError(f"{key} of annotation {annotation.get('id')} must be {count} finite number{'s' * (count > 1)}")
    return values.reshape(count)
