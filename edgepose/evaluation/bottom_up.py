"""Bottom-up networks measured on annotated images, side by side: COCO's figures, and what became of each person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends import load_runtime
from edgepose.errors import InputError, ModelFileError
from edgepose.estimate.whole import estimate_people, head_of
from edgepose.evaluation.coco_ap import NAMES, average_precision
from edgepose.evaluation.evaluate import check_size, image_path
from edgepose.evaluation.people_shift import compare_people
from edgepose.evaluation.report import Measured, images_left_out, versions
from edgepose.io.annotations import AnnotatedImage, Annotations, read_annotations
from edgepose.io.images import read_image
from edgepose.io.watching import Watch, unwatched
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import ModelSpec
from edgepose.stages.poses import Poses

Found = tuple[Poses, np.ndarray]
SHOWN = ("AP", "AP50", "AP75", "AR")


@dataclass(frozen=True)
class MapsAccuracy:
    """One model file's figures.

    Attributes:
        model, sha256, precision: the file.
        figures: each of COCO's, 0 to 1; None where it cannot be computed.
        people: how many it found.
        shift: of its people from the first file's: people, lost, gained, and how far key points moved, image px; None
            for the first.
    """

    model: Path
    sha256: str
    precision: str
    figures: dict[str, float | None]
    people: int
    shift: dict[str, float | int] | None


@dataclass(frozen=True)
class MapsEvaluation:
    """What was measured, a `Report`: conditions, a row for each file, a line for each image that could not be used."""

    conditions: dict[str, Any]
    models: list[MapsAccuracy]
    unreadable: list[str]

    def measured(self) -> Iterator[Measured]:
        """Each file's figures."""
        for each in self.models:
            yield Measured(each.model, each.sha256, self.conditions, each.figures)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [{**each.__dict__, "model": each.model.name} for each in self.models]
        return {"conditions": self.conditions, "versions": versions(), "models": rows, "unreadable": self.unreadable}

    def rows(self) -> list[list[str]]:
        """A row for each file."""
        rows = [["file", "precision", *SHOWN, "people", "lost", "gained", "shift mean px", "p95 px"]]
        for each in self.models:
            figures = [each.figures[name] for name in SHOWN]
            shift = each.shift or {}
            moved = [f"{shift[key]:.2f}" if key in shift else "" for key in ("mean", "p95")]
            rows.append([
                each.model.name, each.precision.upper(), *("-" if v is None else f"{v:.3f}" for v in figures),
                str(each.people), *(str(shift.get(key, "")) for key in ("lost", "gained")), *moved,
            ])  # fmt: skip
        return rows

    def held_for(self) -> list[str]:
        """Which people, and that they were found in whole images."""
        told = self.conditions
        people = f"{told['people']} people in {told['images']} images of {told['annotations']}"
        scales = f", maps averaged with those of {', '.join(told['scales'])}" if "scales" in told else ""
        return [f"{people}, whole images, {'with' if told['flip_test'] else 'no'} flip test{scales}"]

    def notes(self) -> list[str]:
        """Images left out."""
        return images_left_out(self.unreadable)


def evaluate_maps(
    models: Sequence[Path],
    images: Path,
    annotations: Path,
    *,
    flip_test: bool = False,
    scales: Sequence[Path] = (),
    limit: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    watch: Watch = unwatched,
) -> MapsEvaluation:
    """Run bottom-up networks on annotated images and compute COCO's figures.

    A person's score is the network's own; there is no rescoring and no suppression of people, as published. Key points
    that a network did not find lie at 0, 0, as they do in published results. Whatever its key points are called, those
    of COCO are compared.

    Args:
        models: ONNX files with passports.
        images: the folder that the annotations' file names are relative to.
        annotations: COCO key-point annotations.
        flip_test: see `estimate_people`.
        scales: files of the same network for other input sizes, which each of the models is run with.
        limit: only the first so many images with posed people.
        backend, threads: as `load_runtime` takes them.

    Raises:
        InputError: the annotations cannot be read, or none of the images can be used.
        ModelFileError: a file is of no bottom-up network, or lacks one of COCO's key points; and from `load_runtime`.
    """
    truth = read_annotations(annotations)
    chosen = [image for image in truth.images if image.posed.any()][:limit]
    load = partial(load_runtime, exact=True, backend=backend, threads=threads)
    runtimes, others = [load(path) for path in models], [load(path) for path in scales]
    orders = [_coco_order(runtime.passport.spec, truth) for runtime in runtimes]
    used: list[AnnotatedImage] = []
    found: list[list[Found]] = [[] for _ in runtimes]
    unreadable: list[str] = []
    for image in watch("images", chosen, len(chosen)):
        try:
            pixels = read_image(image_path(Path(images), image.file_name))
            check_size(image, pixels)
        except InputError as error:
            unreadable.append(str(error))
            continue
        used.append(image)
        for runtime, people in zip(runtimes, found, strict=True):
            people.append(estimate_people(runtime, pixels, flip_test=flip_test, scales=others))
    if not used:
        raise InputError(f"none of the {len(chosen)} images of {annotations} can be used; {unreadable[0]}")
    rows = []
    for i, (runtime, order) in enumerate(zip(runtimes, orders, strict=True)):
        pairs = [(a[0], b[0]) for a, b in zip(found[0], found[i], strict=True)]
        rows.append(
            MapsAccuracy(
                Path(models[i]),
                runtime.passport.sha256,
                runtime.passport.precision,
                _figures(used, truth, found[i], order),
                sum(len(poses) for poses, _ in found[i]),
                compare_people(pairs).figures() if i else None,
            )
        )
    conditions = {
        "annotations": truth.name,
        "annotations_sha256": truth.sha256,
        "images": len(used),
        "people": int(sum(image.posed.sum() for image in used)),
        "boxes": "none: whole images",
        "flip_test": flip_test,
    }
    if scales:
        conditions["scales"] = ["{}x{}".format(*each.passport.spec.image.size_hw) for each in others]
    return MapsEvaluation(conditions, rows, unreadable)


def _coco_order(spec: ModelSpec, truth: Annotations) -> list[int]:
    """Which of the network's key points are COCO's."""
    head_of(spec)
    names = spec.skeleton.keypoints
    missing = [name for name in COCO17.keypoints if name not in names or name not in truth.keypoint_names]
    if missing:
        raise ModelFileError(f"AP needs all of COCO's key points; {', '.join(missing)} cannot be compared")
    return [names.index(name) for name in COCO17.keypoints]


def _figures(
    images: Sequence[AnnotatedImage], truth: Annotations, found: Sequence[Found], order: Sequence[int]
) -> dict[str, float | None]:
    truth_order = [list(truth.keypoint_names).index(name) for name in COCO17.keypoints]
    people = []
    for poses, scores in found:
        xy = np.nan_to_num(poses.xy[:, order])
        seen = np.isfinite(poses.xy[:, order]).all(axis=2).any(axis=1)  # nobody of a neck alone
        people.append((xy[seen], scores[seen]))
    annotated = [replace(image, keypoints=image.keypoints[:, truth_order]) for image in images]
    figures = average_precision(annotated, people, COCO17.sigmas)
    return {name: figures[name] for name in NAMES}
