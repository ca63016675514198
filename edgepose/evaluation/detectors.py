"""How well detectors find people: COCO's box AP on annotated images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import InputError
from edgepose.estimate.detect import find_people, load_detector
from edgepose.evaluation.coco_ap import box_average_precision
from edgepose.evaluation.evaluate import image_path
from edgepose.files import locked
from edgepose.io.annotations import AnnotatedImage, read_annotations
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport, write_passport
from edgepose.watching import Watch, unwatched

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
    """What was measured on what; `unreadable`: a line for each image that could not be used."""

    conditions: dict[str, str | int]
    detectors: list[DetectorAccuracy]
    unreadable: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        detectors = [{**asdict(each), "path": str(each.path)} for each in self.detectors]
        return {"conditions": self.conditions, "detectors": detectors, "unreadable": self.unreadable}

    def table(self) -> str:
        """A row a figure, a column a file."""
        rows = [["", *(each.path.name for each in self.detectors)]]
        rows.append(["computed in", *(each.arithmetic for each in self.detectors)])
        for name in SHOWN:
            values = [each.figures[name] for each in self.detectors]
            rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        about = f"{self.conditions['people']} people in {self.conditions['images']} images, boxes of persons"
        return "\n".join([*lines, f"{about} of {self.conditions['annotations']}"])


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


def record_detectors(evaluation: DetectorEvaluation) -> None:
    """Append each file's figures to its passport; those measured before under the same conditions give way."""
    for each in evaluation.detectors:
        with locked(each.path.parent):
            passport = read_passport(each.path)
            conditions = {**evaluation.conditions, "arithmetic": each.arithmetic}
            others = [old for old in passport.accuracy if any(old.get(key) != conditions[key] for key in conditions)]
            entry = {**conditions, **each.figures}
            write_passport(each.path, replace(passport, accuracy=[*others, entry]))
