"""OKS average precision and recall, as COCO computes them: the door to pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

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
    return _figures(truth, entries, "bbox", BOX_NAMES, ())


def _figures(
    truth: Sequence[AnnotatedImage],
    found: list[dict[str, object]],
    kind: str,
    names: Sequence[str],
    sigmas: Sequence[float],
) -> dict[str, float | None]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingPackageError("pycocotools", "workstation") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints at every step
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
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(x) if x >= 0 else None for name, x in zip(names, evaluation.stats, strict=True)}


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
