"""Measure model files on annotated images, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.errors import InputError
from edgepose.estimate.detect import Detector, find_people
from edgepose.estimate.top_down import estimate_poses
from edgepose.evaluation.accuracy import Evaluation, ModelAccuracy
from edgepose.evaluation.figures import Found, figures_of, shift_between
from edgepose.files import sha256_of
from edgepose.io.annotations import AnnotatedImage, read_annotations
from edgepose.io.boxes import ImageBoxes, boxes_for_images
from edgepose.io.images import read_image
from edgepose.io.people import usable_people
from edgepose.io.watching import Watch, unwatched
from edgepose.stages.geometry import boxes_in_view
from edgepose.stages.similarity import box_iou

SAME_PERSON_IOU = 0.5  # a detected box is an annotated person's from this overlap on


def evaluate(
    models: Sequence[Path],
    images: Path,
    annotations: Path,
    *,
    boxes: Path | None = None,
    detector: Detector | None = None,
    flip_test: bool = False,
    limit: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    store_fp16: bool = False,
    watch: Watch = unwatched,
) -> Evaluation:
    """Run model files on the same annotated people and compute their figures.

    INT8 is computed exactly, whatever the CPU: figures are those of the file, and times would not be those of `infer`.

    Args:
        models: ONNX files with passports.
        images: the folder that the annotations' file names are relative to.
        annotations: COCO key-point annotations.
        boxes: COCO detection results or annotations to take person boxes from; None: `annotated_boxes` of people
            with a labelled key point.
        detector: finds the person boxes, where no file gives them.
        flip_test: average with the mirrored crop.
        limit: only the first so many images that have posed people.
        backend, threads, store_fp16: as `load_backend` takes them.
        watch: sees the images pass, for a progress bar.

    Raises:
        InputError: the annotations cannot be read, or none of the images can be read and is the annotated one.
        ModelFileError, BackendError, MissingPackageError: from `load_backend` and COCO's evaluation.
    """
    if not models:
        raise ValueError("evaluate needs at least one model file")
    truth = read_annotations(annotations)
    if not Path(images).is_dir():
        raise InputError(f"{images}: no such folder; wanted: the folder with the images that {annotations} names")
    chosen = [image for image in truth.images if image.posed.any() or ((boxes or detector) and limit is None)][:limit]
    source = _BoxSource(boxes, chosen, detector)
    with ExitStack() as stack:
        options: dict[str, Any] = {"backend": backend, "threads": threads, "exact": True, "store_fp16": store_fp16}
        backends = [stack.enter_context(closing(load_backend(model, **options))) for model in models]
        run = _find_people(backends, Path(images), watch("images", chosen, len(chosen)), source, flip_test)
        if not run.images:
            raise InputError(f"none of the {len(chosen)} images of {annotations} can be used; {run.unreadable[0]}")
        conditions = {
            "annotations": truth.name,
            "annotations_sha256": truth.sha256,
            "images": len(run.images),
            "people": int(sum(image.posed.sum() for image in run.images)),
            "boxes": source.label,
            "flip_test": flip_test,
        }
        comparable = [each.spec.changed(name=backends[0].spec.name) == backends[0].spec for each in backends]
        results: list[ModelAccuracy] = []
        for i, each in enumerate(backends):
            figures, missing = figures_of(run.images, truth.keypoint_names, run.found[i], each.spec)
            results.append(
                ModelAccuracy(
                    model=Path(models[i]),
                    sha256=each.passport.sha256,
                    precision=each.passport.precision,
                    backend=each.name,
                    arithmetic=each.arithmetic,
                    random_weights=each.passport.random_weights,
                    figures=figures,
                    missing=missing,
                    shift=shift_between(run.found[0], run.found[i], each.spec) if i and comparable[i] else None,
                )
            )
    unit = backends[0].spec.grid_unit
    return Evaluation(conditions, results, run.unreadable, not all(comparable), sum(run.unusable_boxes), unit)


def annotated_boxes(image: AnnotatedImage, image_hw: tuple[int, int]) -> np.ndarray:
    """(N, 4) left, top, right, bottom of all annotated people, cut off at the image's last row and column.

    As mmpose v1 cleans annotated boxes (`base_coco_style_dataset.py`). Microsoft's evaluation makes each box one pixel
    smaller as well, which is nothing but noise: people's crops lie half a pixel elsewhere. The boxes of people with a
    head box stay whole: they are MPII's, a centre and a scale, which no published evaluation cuts off (docs/mpii.md).
    """
    corners = np.concatenate([image.boxes_xywh[:, :2], image.boxes_xywh[:, :2] + image.boxes_xywh[:, 2:]], axis=1)
    cut = np.clip(corners, 0, np.tile(np.array(image_hw[::-1]) - 1, 2))
    return np.where(np.isnan(image.head_sizes)[:, None], cut, corners)


class _BoxSource:
    """Where person boxes come from: the annotations themselves, a file, or a detector."""

    def __init__(self, boxes: Path | None, images: Sequence[AnnotatedImage], detector: Detector | None = None) -> None:
        self.label = "annotated"
        self.detector = detector
        if detector is not None:
            self.label = f"{detector.runtime.path.name} sha256 {detector.runtime.passport.sha256[:12]}"
        self.by_image: dict[int, ImageBoxes] | None = None
        if boxes is not None:
            self.label = f"{Path(boxes).name} sha256 {sha256_of(Path(boxes))[:12]}" if Path(boxes).is_file() else ""
            names = [Path(image.file_name) for image in images]
            ids = [image.image_id for image in images]
            self.by_image = dict(zip(ids, boxes_for_images(names, boxes, ids), strict=True))

    def boxes_of(self, image: AnnotatedImage, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Boxes (N, 4), their scores (N,), each annotated person's row in them or -1 (M,); how many were unusable."""
        image_hw = pixels.shape[:2]
        annotated = annotated_boxes(image, image_hw)
        pose_of = np.full(len(image), -1)
        if self.by_image is None and self.detector is None:
            rows = np.flatnonzero(image.posed & boxes_in_view(annotated, image_hw) & (image.areas > 0))
            pose_of[rows] = np.arange(len(rows))
            return annotated[rows], np.ones(len(rows)), pose_of, int(image.posed.sum()) - len(rows)
        if self.detector is not None:
            found, scores = find_people(self.detector, pixels)
            given = ImageBoxes(Path(image.file_name), image.image_id, found, scores)
        else:
            assert self.by_image is not None
            given = self.by_image[image.image_id]
        people = usable_people(pixels, given)
        overlap = box_iou(annotated, people.boxes_xyxy.astype(np.float64))
        if overlap.size:
            pose_of = np.where(overlap.max(axis=1) >= SAME_PERSON_IOU, overlap.argmax(axis=1), -1)
        return people.boxes_xyxy, people.scores, pose_of, people.unusable


@dataclass(frozen=True)
class _Run:
    """The images that could be used, what each backend found in them, and a line for each that could not.

    Attributes:
        found: for each backend, image by image.
        unusable_boxes: how many were left out, image by image.
    """

    images: list[AnnotatedImage]
    found: list[list[Found]]
    unreadable: list[str]
    unusable_boxes: list[int]


def _find_people(
    backends: Sequence[Backend], folder: Path, images: Iterable[AnnotatedImage], source: _BoxSource, flip_test: bool
) -> _Run:
    """Run every backend on every image; image by image, so that a machine that slows down is fair to all."""
    for backend in backends:
        backend.warm_up(flip_test=flip_test)
    run = _Run([], [[] for _ in backends], [], [])
    for image in images:
        try:
            pixels = read_image(image_path(folder, image.file_name))
            check_size(image, pixels)
        except InputError as error:
            run.unreadable.append(str(error))
            continue
        boxes, box_scores, pose_of, unusable = source.boxes_of(image, pixels)
        run.images.append(image)
        run.unusable_boxes.append(unusable)
        for turn in range(len(backends)):  # each is the first as often as the others: the first finds cold caches
            i = (turn + len(run.images)) % len(backends)
            poses = estimate_poses(backends[i], pixels, boxes, flip_test=flip_test)
            run.found[i].append(Found(poses, box_scores, pose_of))
    return run


def image_path(folder: Path, file_name: str) -> Path:
    """Where an image lies: as annotated, or in the folder itself where annotations name a folder of their own.

    A name that leads out of the folder is looked for in it: annotations do not choose which files are opened.
    """
    inside = not os.path.isabs(file_name) and ".." not in Path(file_name).parts
    path = folder / file_name
    if inside and os.path.exists(path):  # False, not an error, for a name too long
        return path
    return folder / Path(file_name).name


def check_size(image: AnnotatedImage, pixels: np.ndarray) -> None:
    """InputError where an image is of another size than its annotations say."""
    height, width = pixels.shape[:2]
    if image.size_wh not in (None, (width, height)):
        wanted_w, wanted_h = image.size_wh or (0, 0)
        raise InputError(
            f"{image.file_name} is {width}x{height}, its annotations are for {wanted_w}x{wanted_h}: annotate the "
            f"stored pixels (a rotation in EXIF is ignored), or take the original images"
        )
