"""A calibration set: people in images, chosen reproducibly, checked before use, and cut out as `infer` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepose.backends import Backend
from edgepose.errors import CalibrationError, InputError
from edgepose.estimate.detect import Detector, find_people
from edgepose.estimate.follow import MIN_SCORE
from edgepose.estimate.two_pass import closer_regions
from edgepose.files import sha256_of
from edgepose.io.boxes import boxes_for_images
from edgepose.io.images import find_images, read_image
from edgepose.io.people import read_picture, usable_people
from edgepose.io.watching import Watch, unwatched
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions

CLOSE_CROPS = 2  # a person, of a network that is run twice
BLANK = 16  # grey levels: a picture whose pixels are all closer together shows nothing
HELD_OUT_SHARE = 10  # one image in so many, by its hash, is kept for checking
SHOWN = 10  # unreadable images that are named one by one


@dataclass(frozen=True)
class CalibrationImage:
    """One image and the people to cut out of it.

    Attributes:
        path: the file.
        sha256: of its bytes.
        boxes_xyxy: (N, 4) float32, N >= 1, image px.
        close: M regions around key points, for a network that is run twice; None for others.
    """

    path: Path
    sha256: str
    boxes_xyxy: np.ndarray
    close: Regions | None = None

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def crops(self, spec: ModelSpec) -> np.ndarray:
        """(N + M, 3, H, W) float32, normalised."""
        image = read_image(self.path)
        crops = cut_out(image, Regions.around(self.boxes_xyxy, spec), spec)
        return crops if self.close is None else np.concatenate([crops, cut_out(image, self.close, spec)])


@dataclass(frozen=True)
class CalibrationSet:
    """What the ranges are taken from, and what the result is checked on: different images wherever there are two.

    Attributes:
        fitting: images whose crops give the ranges.
        held_out: images whose crops show what INT8 does; `fitting` itself if there is only one image.
        unreadable: one line for each image that could not be read.
        unusable_boxes: boxes left out; see `PeopleBoxes`.
        turned: images among those used whose EXIF notes a rotation, which was ignored.
        blank: people left out because their box is of one colour, to 16 grey levels.
        confirming: images in neither, which confirm a choice that was made on `held_out`; none unless asked for.
    """

    fitting: tuple[CalibrationImage, ...]
    held_out: tuple[CalibrationImage, ...]
    unreadable: tuple[str, ...]
    unusable_boxes: int = 0
    turned: int = 0
    blank: int = 0
    confirming: tuple[CalibrationImage, ...] = ()

    @property
    def showing(self) -> tuple[CalibrationImage, ...]:
        """Those who show what INT8 does: nothing was chosen by them."""
        return self.confirming or self.held_out

    def confirms(self, sha256: str) -> bool:
        """Whether an annotated image confirms a choice: those kept for it, and of those in no part one in two."""
        if sha256 in {image.sha256 for image in self.confirming}:
            return True
        chose = {image.sha256 for part in (self.fitting, self.held_out) for image in part}
        return sha256 not in chose and int(sha256[-1], 16) % 2 == 1


def read_calibration_set(
    images: Iterable[str | Path],
    boxes: Path | None,
    *,
    limit: int,
    seed: int,
    detector: Detector | None = None,
    held_out: int = HELD_OUT_SHARE,
    confirm: bool = False,
    watch: Watch = unwatched,
) -> CalibrationSet:
    """Choose up to `limit` people, image by image in an order that `seed` sets, and check that they can be read.

    Args:
        images: files, folders and globs.
        boxes: COCO annotations or detection results; None takes each image as one person.
        detector: finds the people where no file gives them; as in `infer`, those of a score from MIN_SCORE on.
        held_out: one image in so many, by its hash, is kept for checking.
        confirm: keep as many again to confirm what is chosen on those; two of each at least.
        watch: sees the images pass, for a progress bar.

    Raises:
        InputError: no images, or a boxes file that cannot be read or belongs to other images.
        CalibrationError: not one usable crop.
    """
    entries = boxes_for_images(find_images(images), boxes)
    order = np.random.default_rng(seed).permutation(len(entries))
    chosen: dict[str, CalibrationImage] = {}
    unreadable: list[str] = []
    unusable = turned = blank = 0
    missing = limit
    for entry in watch("reading images", [entries[index] for index in order], len(entries)):
        if missing == 0:
            continue  # the progress bar runs to its end
        if entry.boxes_xyxy is not None and len(entry.boxes_xyxy) == 0:
            continue
        try:
            pixels, is_turned = read_picture(entry)
        except InputError as error:
            unreadable.append(str(error))
            continue
        if detector is not None:
            found, scores = find_people(detector, pixels, min_score=MIN_SCORE)
            entry = replace(entry, boxes_xyxy=found, box_scores=scores)
        people = usable_people(pixels, entry)
        unusable += people.unusable
        found = people.boxes_xyxy
        shows = np.array([_shows_something(pixels, box) for box in found], bool)
        blank += int((~shows).sum())
        found = found[shows][:missing]
        digest = sha256_of(entry.path)
        if len(found) and digest not in chosen:  # a copy of an image says nothing new
            chosen[digest] = CalibrationImage(entry.path, digest, found)
            missing -= len(found)
            turned += is_turned
    if not chosen:
        raise CalibrationError(
            f"no usable person in {len(entries)} images ({len(unreadable)} unreadable"
            f"{', the first: ' + unreadable[0] if unreadable else ''}"
            f"{f', {blank} people blank: of one colour' if blank else ''}); wanted: at least one"
            f"{', check that the boxes belong to these images' if boxes else ''}"
            f"{', in which the detector finds people; where each image is one, say --boxes whole' if detector else ''}"
        )
    by_hash = sorted(chosen.values(), key=lambda image: image.sha256)
    count = min(max(1, len(by_hash) // held_out), len(by_hash) - 1)
    if confirm and count < 2:
        raise CalibrationError(
            f"a budget takes images for the ranges, others to choose by and others to confirm, and there are "
            f"{len(by_hash)} with people: give at least {2 * held_out}, better a few hundred"
        )
    confirming = by_hash[count : min(2 * count, len(by_hash) - 1)] if confirm else []
    kept = {image.sha256 for image in (*by_hash[:count], *confirming)}
    fitting = tuple(image for image in chosen.values() if image.sha256 not in kept)
    checking = tuple(by_hash[:count]) or fitting
    return CalibrationSet(fitting, checking, tuple(unreadable), unusable, turned, blank, tuple(confirming))


def _shows_something(image: np.ndarray, box_xyxy: np.ndarray) -> bool:
    """Whether the box's pixels of an image (H, W, 3) differ by 16 grey levels in some colour."""
    left, top = np.maximum(np.floor(box_xyxy[:2]), 0).astype(int)
    right, bottom = np.ceil(box_xyxy[2:]).astype(int)
    pixels = image[top : bottom + 1, left : right + 1].reshape(-1, 3)
    return bool((np.ptp(pixels, axis=0) >= BLANK).any())


def with_close_crops(
    people: CalibrationSet, backend: Backend, *, seed: int, watch: Watch = unwatched
) -> CalibrationSet:
    """Add crops as the second pass of a network that is run twice gets them: around key points that it located.

    Args:
        backend: of the FP32 model, whose spec has `refine`.
        seed: which key points, CLOSE_CROPS a person.
        watch: sees the images pass, for a progress bar.
    """
    spec, rng = backend.spec, np.random.default_rng(seed)
    assert spec.refine is not None
    known = {image.sha256: image for image in (*people.fitting, *people.held_out, *people.confirming)}
    for digest in watch("looking closer", list(known), len(known)):
        image = known[digest]
        regions = Regions.around(image.boxes_xyxy, spec)
        keypoints = backend.keypoints(read_image(image.path), regions)
        located = keypoints[..., 2] > 0
        drawn = np.where(located, rng.random(located.shape), -1)
        person, index = np.nonzero(located & (drawn >= np.sort(drawn, axis=1)[:, -CLOSE_CROPS:][:, :1]))
        close = closer_regions(regions, keypoints, person, index, spec.refine.share)
        known[digest] = replace(image, close=close)
    parts = (people.fitting, people.held_out, people.confirming)
    fitting, held_out, confirming = (tuple(known[image.sha256] for image in part) for part in parts)
    return replace(people, fitting=fitting, held_out=held_out, confirming=confirming)


def count_crops(images: Iterable[CalibrationImage]) -> int:
    """How many crops `crops_of` gives."""
    return sum(len(image) + (0 if image.close is None else len(image.close)) for image in images)


def crops_of(images: Sequence[CalibrationImage], spec: ModelSpec) -> Iterator[np.ndarray]:
    """The crops one by one, (1, 3, H, W) float32 each; one image is in memory at a time."""
    for image in images:
        for crop in image.crops(spec):
            yield crop[None]


def unread(lines: Sequence[str]) -> list[str]:
    """How many images could not be read, and the first of them; nothing where all could."""
    if not lines:
        return []
    more = [f"… and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
    return [f"{len(lines)} images could not be read and were left out:", *lines[:SHOWN], *more]
