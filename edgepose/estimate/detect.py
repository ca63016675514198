"""Whole images to boxes of people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepose.backends import load_runtime
from edgepose.backends.runtime import Runtime
from edgepose.errors import ModelFileError
from edgepose.model.heads.detections import Detections
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.detect import find_boxes
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import usable_boxes
from edgepose.stages.letterbox import Letterbox, as_input
from edgepose.timing import stage

MOST = 100  # people an image; what a bad detector finds beyond is the least sure


EMBEDDED = Path(__file__).parents[1] / "weights" / "person_tiny.onnx"
EMBEDDED_NOTE = (
    "people were found by the small detector that comes along (AP50 0.27 on photographs it did not learn from); "
    "RTMDet-nano (0.69), PicoDet, YOLOX or NanoDet find more: edgepose import THEIRS.onnx --preset rtmdet-nano, then "
    "--detector"
)


class Detector:
    """A person detector that is open.

    Attributes:
        runtime: runs its file.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        return self.runtime.passport.spec

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        self.runtime.close()


def load_detector(
    path: Path | None = None, *, backend: str | None = None, threads: int | None = None, exact: bool = False
) -> Detector:
    """The person detector of a model file; without one the small one that is in the package.

    Args:
        backend, threads, exact: as `load_runtime` takes them.

    Raises:
        ModelFileError: the file finds no boxes of people, or cannot be opened; see `load_runtime` for other errors.
    """
    path = Path(path or EMBEDDED)
    _head_of(read_passport(path).spec)
    return Detector(load_runtime(path, backend=backend, threads=threads, exact=exact))


def find_people(
    detector: Detector, image: np.ndarray | Frame, *, min_score: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The people in one image.

    Args:
        detector: from `load_detector`.
        image: (H, W, 3) uint8 RGB, or a Frame.
        min_score: people of a lower score are left out.

    Returns:
        (N, 4) float32 boxes, left, top, right, bottom in image px, cut off at its edges; and (N,) float32 scores, best
        first. N is 100 at most.

    Raises:
        ModelFileError: the model finds no boxes.
        BackendError: the runtime failed.
    """
    return find_people_in(detector, [image], min_score=min_score)[0]


def find_people_in(
    detector: Detector, images: Sequence[np.ndarray | Frame], *, min_score: float = 0.0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The people in each of several images, with one run of the network; see `find_people`."""
    head = _head_of(detector.spec)
    if not images:
        return []
    picture = detector.spec.image
    with stage("letterbox"):
        pixels = [image.to_rgb() if isinstance(image, Frame) else image for image in images]
        fits = [Letterbox.of((image.shape[0], image.shape[1]), picture) for image in pixels]
        inputs = np.stack([as_input(image, fit, picture) for image, fit in zip(pixels, fits, strict=True)])
    with stage("detect"):
        outputs = detector.runtime.run({"images": inputs})
    with stage("boxes"):
        found = find_boxes(outputs, head, picture.size_hw)
        return [_in_image(*one, fit, min_score) for one, fit in zip(found, fits, strict=True)]


def _head_of(spec: ModelSpec) -> Detections:
    if not isinstance(spec.head, Detections):
        raise ModelFileError(
            f"{spec.name} finds no boxes of people (its head is {spec.head.kind}): a detector was wanted; were "
            f"--detector and --engine swapped?"
        )
    return spec.head


def _in_image(boxes: np.ndarray, scores: np.ndarray, fit: Letterbox, min_score: float) -> tuple[np.ndarray, np.ndarray]:
    boxes = fit.boxes_to_image(boxes)
    kept = np.flatnonzero(usable_boxes(boxes) & (scores >= min_score))[:MOST]
    return boxes[kept], scores[kept]
