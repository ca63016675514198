"""OKS average precision and recall, as COCO computes them: the door to pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepose.errors import MissingPackageError
from edgepose.io.annotations import AnnotatedImage

BOX_NAMES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR", "ARS", "ARM", "ARL")
NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def average_precision(
    truth: Sequence[AnnotatedImage],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    sigmas: Sequence[float],
) -> dict[str, float | None]:
    """COCO's ten key-point figures over OKS 0.50:0.05:0.95, at most 20 people an image.

    Args:
        truth: the images, with keypoints in the order of `sigmas`.
        found: per image the poses found: xy (N, K, 2) and person scores (N,).
        sigmas: K constants of OKS.

    Returns:
        Each of NAMES, 0 to 1; None where no person falls into it (no medium-sized one for APM, say).

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    return _figures(truth, _results(truth, found), "keypoints", NAMES, sigmas)


def box_average_precision(
    truth: Sequence[AnnotatedImage], found: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float | None]:
    """COCO's twelve box figures over IoU 0.50:0.05:0.95, at most 100 people an image.

    Args:
        truth: the images; all their people count, whether key points are labelled or not.
        found: per image the boxes found: (N, 4) left, top, right, bottom, and scores (N,).

    Returns:
        Each of BOX_NAMES, 0 to 1; None where no person falls into it.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    return _figures(truth, _box_results(truth, found), "bbox", BOX_NAMES, ())


def resampled_ap(
    truth: Sequence[AnnotatedImage],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    samples: Sequence[np.ndarray],
    sigmas: Sequence[float] | None = None,
) -> np.ndarray:
    """AP on other choices of the images, as a bootstrap draws them: matched once, added up once a choice.

    Args:
        truth, found: as `average_precision` takes them with `sigmas`, as `box_average_precision` does without.
        samples: of each choice the images' places (n,) in the order of their ids, also several times.

    Returns:
        (len(samples),) AP, 0 to 1; NaN where a choice shows nobody.
    """
    if sigmas is None:
        evaluation = _matched(truth, _box_results(truth, found), "bbox", (), only_all=True)
    else:
        evaluation = _matched(truth, _results(truth, found), "keypoints", sigmas, only_all=True)
    of_images, figures = evaluation.evalImgs, []
    for sample in samples:
        evaluation.evalImgs = [of_images[int(place)] for place in sample]
        evaluation.params.imgIds = list(range(len(sample)))
        evaluation._paramsEval = copy.deepcopy(evaluation.params)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        figures.append(precision[precision > -1].mean() if (precision > -1).any() else np.nan)
    return np.array(figures)


def _box_results(
    truth: Sequence[AnnotatedImage], found: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for image, (boxes, scores) in zip(truth, found, strict=True):
        for (left, top, right, bottom), score in zip(boxes.astype(np.float64), scores, strict=True):
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": image.image_id,
                    "category_id": 1,
                    "area": float((right - left) * (bottom - top)),
                    "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
                    "score": float(score),
                }
            )
    return entries


def _figures(
    truth: Sequence[AnnotatedImage],
    found: list[dict[str, object]],
    kind: str,
    names: Sequence[str],
    sigmas: Sequence[float],
) -> dict[str, float | None]:
    evaluation = _matched(truth, found, kind, sigmas)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints at every step
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(x) if x >= 0 else None for name, x in zip(names, evaluation.stats, strict=True)}


def _matched(
    truth: Sequence[AnnotatedImage],
    found: list[dict[str, object]],
    kind: str,
    sigmas: Sequence[float],
    *,
    only_all: bool = False,
) -> Any:
    """The evaluation with its people matched; `only_all`: of all sizes together, at most detections."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingPackageError("pycocotools", "workstation") from error
    with contextlib.redirect_stdout(io.StringIO()):
        reference, results = COCO(), COCO()
        for coco, annotations in ((reference, _truth(truth)), (results, found)):
            coco.dataset = {
                "images": [{"id": image.image_id} for image in truth],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": annotations,
            }
            coco.createIndex()
        evaluation = COCOeval(reference, results, kind)
        if kind == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        if only_all:
            params = evaluation.params
            params.areaRng, params.areaRngLbl, params.maxDets = params.areaRng[:1], ["all"], params.maxDets[-1:]
        evaluation.evaluate()
    return evaluation


def _truth(truth: Sequence[AnnotatedImage]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for image in truth:
        for i in range(len(image)):
            entries.append(
                {
                    "id": len(entries) + 1,  # pycocotools takes id 0 for "unmatched"
                    "image_id": image.image_id,
                    "category_id": 1,
                    "iscrowd": int(image.crowd[i]),
                    "area": float(image.areas[i]),
                    "bbox": image.boxes_xywh[i].tolist(),
                    "num_keypoints": int((image.keypoints[i, :, 2] > 0).sum()),
                    "keypoints": image.keypoints[i].ravel().tolist(),
                }
            )
    return entries


def _results(
    truth: Sequence[AnnotatedImage], found: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for image, (xy, scores) in zip(truth, found, strict=True):
        for person, score in zip(xy.astype(np.float64), scores, strict=True):
            width, height = np.ptp(person, axis=0)
            points = np.concatenate([person, np.ones((len(person), 1))], axis=1)
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": image.image_id,
                    "category_id": 1,
                    "area": float(width * height),  # the key points' extent, as pycocotools' loadRes takes it
                    "bbox": [*person.min(axis=0).tolist(), float(width), float(height)],
                    "keypoints": points.ravel().tolist(),
                    "score": float(score),
                }
            )
    return entries
