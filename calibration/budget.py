"""Budgets, and what a quantised file loses against FP32 on people it was not calibrated on, in the budget's unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.backends import Backend
from edgepose.calibration.dataset import CalibrationImage
from edgepose.errors import CalibrationError, InputError
from edgepose.estimate.top_down import estimate_poses
from edgepose.evaluation.evaluate import annotated_boxes, check_size, image_path
from edgepose.evaluation.figures import Found, figures_of, pck_of
from edgepose.files import sha256_of
from edgepose.io.annotations import AnnotatedImage, Annotations
from edgepose.io.images import read_image
from edgepose.model.skeletons import COCO17
from edgepose.stages.geometry import Regions, boxes_in_view

UNITS = ("px", "oks", "ap", "pck")
LABELLED = ("ap", "pck")  # units that are measured on annotated people
CONFIDENT = 0.3  # score of the key points that are compared
LEAST_FIGURE = 5.0  # percent: what finds less than that was misread, and INT8 may do anything to it
FEW = (6.314, 2.920)  # standard errors: one-sided 95 % of Student's t with 1 and 2 degrees of freedom
NORMAL = 1.645  # the same of a normal distribution
GROUPS = 10  # of images, for the standard error of a figure that is no mean over people


@dataclass(frozen=True)
class Budget:
    """What INT8 may cost: `value` input px, OKS (0 to 1), or percentage points of AP or PCK."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def parse_budget(text: str) -> Budget:
    """Read "0.5px", "0.005oks", "0.3ap" or "0.2pck"; ValueError on anything else, 0 among it."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]+)\s*", text.lower())
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{text!r} is no budget; wanted: a number and one of {', '.join(UNITS)}, such as 0.5px")
    if float(match[1]) == 0:
        raise ValueError(f"{text!r}: nothing but FP32 costs nothing; wanted: more than 0")
    return Budget(float(match[1]), match[2])


@dataclass(frozen=True)
class Loss:
    """What a file loses against FP32, in a budget's unit.

    Attributes:
        value: the mean over key points (px) or people (oks), or the fall of the figure (ap, pck).
        parts: (n,) whose mean is `value`: one an image (px, oks), whose people are alike, or jackknife pseudo-value of
            a group of images (ap, pck). Of two files they are of the same images, so differences are paired.
    """

    value: float
    parts: np.ndarray

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 for less than two parts."""
        return standard_error(self.parts)

    @property
    def upper(self) -> float:
        """What the loss is below with a certainty of 95 %, as far as these images tell; infinite for a single part."""
        if len(self.parts) < 2:
            return float("inf")
        return self.value + certain(len(self.parts) - 1) * self.error


def certain(freedom: int) -> float:
    """How many standard errors make one-sided 95 % sure, with so many degrees of freedom: Student's t.

    From three on by its expansion about the normal quantile (Abramowitz and Stegun, 26.7.5), to within 0.01.
    """
    if freedom <= len(FEW):
        return FEW[freedom - 1]
    z = NORMAL
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def standard_error(parts: np.ndarray) -> float:
    """Of the mean of (n,) values; 0 for less than two."""
    return float(parts.std(ddof=1) / np.sqrt(len(parts))) if len(parts) > 1 else 0.0


class ShiftJudge:
    """Judges by how far confident key points move from FP32's: in px of the network's input, or as lost OKS.

    OKS is that of COCO's evaluation with FP32's pose as the truth and half the box's area as the person's, about the
    share of a box that a person fills. People without a confident key point do not count.
    """

    def __init__(self, unit: str, reference: Backend, images: Sequence[CalibrationImage]) -> None:
        """Run FP32 once.

        Raises:
            CalibrationError: no key point to compare, or OKS's constants are not known for these key points.
        """
        self.unit, self.images, self.spec = unit, images, reference.spec
        skeleton = reference.spec.skeleton
        self.sigmas = np.asarray(skeleton.sigmas or [])
        if unit == "oks" and not skeleton.sigmas:
            raise CalibrationError(
                f"a budget in OKS needs the constants (sigmas) of {reference.spec.name}'s key points, as "
                f"{COCO17.name} has; give one in px"
            )
        self.wanted = self._keypoints(reference)
        if not any((wanted[..., 2] > CONFIDENT).any() for wanted in self.wanted):
            raise CalibrationError(
                f"FP32 finds no key point with a score over {CONFIDENT} on {len(images)} held-out images: nothing to "
                f"compare. Give images of people as the network will see them"
            )

    def _keypoints(self, backend: Backend) -> list[np.ndarray]:
        return [
            backend.keypoints(read_image(image.path), Regions.around(image.boxes_xyxy, self.spec))
            for image in self.images
        ]

    def loss(self, backend: Backend) -> Loss:
        """Of a backend of the same spec."""
        sums, counts = [], []
        for image, wanted, found in zip(self.images, self.wanted, self._keypoints(backend), strict=True):
            regions = Regions.around(image.boxes_xyxy, self.spec)
            distance = np.linalg.norm(found[..., :2] - wanted[..., :2], axis=-1)  # (N, K) image px
            distance = np.where(np.isnan(distance), regions.size_wh.max(axis=1)[:, None], distance)  # lost
            confident = wanted[..., 2] > CONFIDENT
            if self.unit == "px":
                each = distance * (self.spec.image.size_hw[1] / regions.size_wh[:, :1])
            else:
                sides = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]
                areas = np.maximum(sides.prod(axis=1) / 2, 1.0)
                each = 1 - np.exp(-(distance**2) / (2 * areas[:, None] * (2 * self.sigmas) ** 2))
            counted = confident.sum(axis=1)
            seen = counted > 0
            if not seen.any():
                continue
            sum_of = np.where(confident, each, 0).sum(axis=1)[seen]
            if self.unit == "oks":
                sum_of, counted = sum_of / counted[seen], seen
            sums.append(sum_of.sum())
            counts.append(counted.sum())
        total, count = np.array(sums), np.array(counts)
        value = total.sum() / count.sum()
        # a ratio's error by its linearisation (Cochran, "Sampling Techniques", 1977, section 6.4)
        return Loss(float(value), value + (total - value * count) / count.mean())


class FigureJudge:
    """Judges by how much AP or PCK falls, percentage points, on annotated people in their annotated boxes.

    PCK is that of the skeleton, `pck_of`: of bodies PCK@0.2, of hands and faces PCK@0.2 of the box.
    """

    def __init__(
        self,
        unit: str,
        reference: Backend,
        annotations: Annotations,
        folder: Path,
        seen: frozenset[str],
        takes: Callable[[str], bool] = lambda digest: True,
    ) -> None:
        """Run FP32 once, on all annotated images but those calibrated on.

        Args:
            seen: sha256 of the images that were calibrated on.
            takes: whether an image of this sha256 takes part.

        Raises:
            InputError: no annotated image is left, or FP32 has no such figure on them, or next to nothing.
        """
        self.figure = "AP" if unit == "ap" else pck_of(reference.spec.skeleton)
        self.annotations, self.folder = annotations, folder
        self.images, why = _usable(annotations, folder, seen, takes)
        if not self.images:
            raise InputError(
                f"no image of {annotations.name} in {folder} is left to measure {self.figure} on: {why}; give "
                f"annotations of other images than those calibrated on, and their folder"
            )
        self.wanted, self.wanted_parts = self._figures(reference)
        if self.wanted < LEAST_FIGURE:
            raise InputError(
                f"{self.figure} of FP32 is {self.wanted:.1f} % with {annotations.name}: nothing to lose. Check that "
                f"the spec names the key points in the network's order, and that these are the images"
            )

    def _figures(self, backend: Backend) -> tuple[float, np.ndarray]:
        """The figure and its jackknife pseudo-values (Efron, "The Jackknife", 1982), percent."""
        found = list(_found(backend, self.images, self.folder))
        whole = self._figure_of(range(len(found)), found, backend)
        count = min(GROUPS, len(found))
        if count < 2:
            return whole, np.array([whole])
        without = [
            self._figure_of([i for i in range(len(found)) if i % count != group], found, backend)
            for group in range(count)
        ]
        values = count * whole - (count - 1) * np.array(without)
        return whole, values

    def _figure_of(self, rows: Sequence[int], found: Sequence[Found], backend: Backend) -> float:
        figures, missing = figures_of(
            [self.images[row] for row in rows],
            self.annotations.keypoint_names,
            [found[row] for row in rows],
            backend.spec,
        )
        value = figures[self.figure]
        if value is None:
            why = "; ".join(missing) or f"{backend.spec.skeleton.name} is measured by its PCK: take a budget of pck"
            raise InputError(f"{self.figure} cannot be measured with {self.annotations.name}: {why}")
        return 100 * value

    def loss(self, backend: Backend) -> Loss:
        """Of a backend of the same spec."""
        value, parts = self._figures(backend)
        return Loss(self.wanted - value, self.wanted_parts - parts)


Judge = ShiftJudge | FigureJudge


def _usable(
    annotations: Annotations, folder: Path, seen: frozenset[str], takes: Callable[[str], bool]
) -> tuple[list[AnnotatedImage], str]:
    """Annotated images that can be read, are the annotated ones and were not calibrated on; why others are not."""
    usable, reasons = [], ["nobody in them has a labelled key point"]
    for image in annotations.images:
        if not image.posed.any():
            continue
        path = image_path(folder, image.file_name)
        try:
            check_size(image, read_image(path))
        except InputError as error:
            reasons.append(str(error))
            continue
        digest = sha256_of(path)
        if digest in seen:
            reasons.append(f"{image.file_name} was calibrated on")
        elif not takes(digest):
            reasons.append("the images are too few to choose on some and confirm on others")
        else:
            usable.append(image)
    return usable, reasons[-1]


def _found(backend: Backend, images: Sequence[AnnotatedImage], folder: Path) -> Iterator[Found]:
    for image in images:
        pixels = read_image(image_path(folder, image.file_name))
        boxes = annotated_boxes(image, pixels.shape[:2])
        rows = np.flatnonzero(image.posed & boxes_in_view(boxes, pixels.shape[:2]) & (image.areas > 0))
        pose_of = np.full(len(image), -1)
        pose_of[rows] = np.arange(len(rows))
        yield Found(estimate_poses(backend, pixels, boxes[rows]), np.ones(len(rows)), pose_of)
