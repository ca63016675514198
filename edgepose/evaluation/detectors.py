"""How well detectors find people: COCO's box AP on annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.estimate.detect import find_people, load_detector
from edgepose.evaluation.coco_ap import box_average_precision
from edgepose.evaluation.evaluate import check_size, image_path
from edgepose.evaluation.report import Measured, images_left_out, versions
from edgepose.io.annotations import AnnotatedImage, read_annotations
from edgepose.io.images import read_image
from edgepose.io.watching import Watch, unwatched

SHOWN = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR")


@dataclass(frozen=True)
class DetectorAccuracy:
    """One file's figures: each of coco_ap.BOX_NAMES, 0 to 1, None where no person falls into it."""

    path: Path
    sha256: str
    precision: str
    arithmetic: str
    figures: dict[str, float | None]


@dataclass(frozen=True)
class DetectorEvaluation:
    """What was measured on what, a `Report`; `unreadable`: a line for each image that could not be used."""

    conditions: dict[str, str | int]
    detectors: list[DetectorAccuracy]
    unreadable: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        detectors = [{**asdict(each), "path": str(each.path)} for each in self.detectors]
        return {
            "conditions": self.conditions,
            "versions": versions(),
            "detectors": detectors,
            "unreadable": self.unreadable,
        }

    def rows(self) -> list[list[str]]:
        """A row for each figure, a column for each file."""
        rows = [["", *(each.path.name for each in self.detectors)]]
        rows.append(["computed in", *(each.arithmetic for each in self.detectors)])
        for name in SHOWN:
            values = [each.figures[name] for each in self.detectors]
            rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
        return rows

    def held_for(self) -> list[str]:
        """Which people."""
        told = self.conditions
        return [f"{told['people']} people in {told['images']} images, boxes of persons of {told['annotations']}"]

    def notes(self) -> list[str]:
        """Images left out."""
        return images_left_out(self.unreadable)

    def measured(self) -> Iterator[Measured]:
        """Each file's figures, under what it was computed in."""
        for each in self.detectors:
            yield Measured(each.path, each.sha256, {**self.conditions, "arithmetic": each.arithmetic}, each.figures)


def evaluate_detectors(
    detectors: Sequence[Path],
    images: Path,
    annotations: Path,
    *,
    limit: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    watch: Watch = unwatched,
) -> DetectorEvaluation:
    """Run detectors on annotated images and compute the AP of their persons' boxes; INT8 is computed exactly.

    Args:
        detectors: model files with passports.
        images: the folder that the annotations' file names are relative to.
        annotations: COCO key-point annotations; all their people count.
        limit: only the first so many images.

    Raises:
        InputError: the annotations cannot be read, or none of the images can.
        ModelFileError, BackendError, MissingPackageError: from `load_detector` and COCO's evaluation.
    """
    truth = read_annotations(annotations)
    if not Path(images).is_dir():
        raise InputError(f"{images}: no such folder; wanted: the folder with the images that {annotations} names")
    used: list[AnnotatedImage] = []
    unreadable: list[str] = []
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in detectors]
    with ExitStack() as stack:
        loaded = [
            stack.enter_context(closing(load_detector(path, backend=backend, threads=threads, exact=True)))
            for path in detectors
        ]
        chosen = truth.images[:limit]
        for image in watch("images", chosen, len(chosen)):
            try:
                pixels = read_image(image_path(Path(images), image.file_name))
                check_size(image, pixels)
            except InputError as error:
                unreadable.append(str(error))
                continue
            used.append(image)
            for one, of_detector in zip(loaded, found, strict=True):
                of_detector.append(find_people(one, pixels))
        if not used:
            raise InputError(f"none of the images of {annotations} can be used; {unreadable[0]}")
        results = [
            DetectorAccuracy(
                Path(path),
                one.runtime.passport.sha256,
                one.runtime.passport.precision,
                one.runtime.arithmetic,
                box_average_precision(used, of_detector),
            )
            for path, one, of_detector in zip(detectors, loaded, found, strict=True)
        ]
    conditions: dict[str, str | int] = {
        "annotations": truth.name,
        "annotations_sha256": truth.sha256,
        "images": len(used),
        "people": int(sum((~image.crowd).sum() for image in used)),
        "of": "boxes of persons",
    }
    return DetectorEvaluation(conditions, results, unreadable)
