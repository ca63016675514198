"""People over the frames of videos: where to look next, who is who, and points without jitter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepose.backends import Backend
from edgepose.estimate.detect import Detector, find_people_in
from edgepose.estimate.top_down import estimate_many
from edgepose.model.skeletons import COCO17, Skeleton
from edgepose.stages.frames import Frame, hw_of
from edgepose.stages.nms import suppress
from edgepose.stages.poses import Poses
from edgepose.stages.similarity import box_iou, oks_nms
from edgepose.stages.smoothing import Smoother
from edgepose.stages.tracking import Tracker, TrackingSettings

MIN_SCORE = 0.4  # of a detected person
DOUBTFUL, SAME_PLACE = 0.35, 0.5  # a less sure one, where somebody was: a score, and an IoU
SURE = 0.3  # a key point's score that counts for a box
FEWEST = 4  # sure key points that make a box
PADDING = 0.12  # of the key points' extent, on each side: measured, docs/measurements/following.md


@dataclass(frozen=True)
class Following:
    """How people are followed.

    Attributes:
        detect_every: a detector looks at every so many frames; between them boxes come from the key points of the
            frame before. None: when somebody is doubted, and every `longest` frames, for those who came.
        longest: see `detect_every`.
        track: give ids.
        smooth: the One-Euro filter, which needs ids.
        tracking: how ids are given.
    """

    detect_every: int | None = 1
    longest: int = 10
    track: bool = True
    smooth: bool = False
    tracking: TrackingSettings | None = None

    def __post_init__(self) -> None:
        if (self.detect_every is not None and self.detect_every < 1) or self.longest < 1:
            raise ValueError(f"detect_every and longest must be at least 1, got {self.detect_every}, {self.longest}")
        if self.smooth and not self.track:
            raise ValueError("smooth needs track: points are smoothed along one person's frames")


def follow(
    pose: Backend,
    detector: Detector,
    frames: Iterable[tuple[np.ndarray | Frame, float]],
    following: Following | None = None,
    *,
    min_score: float = MIN_SCORE,
    flip_test: bool = False,
) -> Iterator[Poses]:
    """The people of one video: boxes from a detector, key points, ids.

    Args:
        pose: the pose network, from `load_backend`.
        detector: the person detector, from `load_detector`.
        frames: (image, seconds) as `estimate_poses` takes images; seconds from any moment on.
        following: how people are followed.
        min_score: people whose box has a lower score are left out.
        flip_test: average with the mirrored crop.

    Yields:
        Of each frame the poses, with box_scores and track_ids.
    """
    followers = Followers(pose, detector, 1, following, min_score=min_score, flip_test=flip_test)
    for image, seconds in frames:
        yield followers.take([(0, image, seconds)])[0]


class Followers:
    """Follows the people of several videos, whose frames share each run of the networks.

    Args:
        pose, detector, following, min_score, flip_test: see `follow`.
        videos: how many.
    """

    def __init__(
        self,
        pose: Backend,
        detector: Detector,
        videos: int,
        following: Following | None = None,
        *,
        min_score: float = MIN_SCORE,
        flip_test: bool = False,
    ) -> None:
        self._pose, self._detector, self._min_score, self._flip_test = pose, detector, min_score, flip_test
        self._followers = [Follower(pose.spec.skeleton, following) for _ in range(videos)]

    def take(self, frames: Sequence[tuple[int, np.ndarray | Frame, float]]) -> list[Poses]:
        """The poses of one frame of each of some videos: (number of the video, image, seconds)."""
        of_frame = [self._followers[video] for video, _, _ in frames]
        for follower, (_, image, _) in zip(of_frame, frames, strict=True):
            follower.fit(hw_of(image))
        looked = [follower.wants_detection() for follower in of_frame]
        asked = [image for (_, image, _), wanted in zip(frames, looked, strict=True) if wanted]
        found = iter(find_people_in(self._detector, asked, min_score=min(DOUBTFUL, self._min_score)))
        people = [
            follower.believed(*next(found), self._min_score) if wanted else follower.boxes()
            for follower, wanted in zip(of_frame, looked, strict=True)
        ]
        images = [image for _, image, _ in frames]
        poses = estimate_many(self._pose, images, [boxes for boxes, _ in people], flip_test=self._flip_test)
        return [
            follower.follow(replace(one, box_scores=scores), seconds, hw_of(image), detected=detected)
            for follower, one, (_, scores), (_, image, seconds), detected in zip(
                of_frame, poses, people, frames, looked, strict=True
            )
        ]


class Follower:
    """Follows the people of one video, frame by frame.

    For each frame: if `wants_detection`, a detector finds the boxes; else `boxes` are where the people of the frame
    before are. Poses are estimated in them, and `follow` takes them in.
    """

    def __init__(self, skeleton: Skeleton, following: Following | None = None) -> None:
        self.following = following or Following()
        self._sigmas = np.array(skeleton.sigmas or [np.mean(COCO17.sigmas)] * len(skeleton))
        self._tracker = Tracker(self._sigmas, self.following.tracking) if self.following.track else None
        self._smoother = Smoother() if self.following.smooth else None
        self._since = 0  # frames since the detector looked
        self._doubted = True
        self._image_hw: tuple[int, int] | None = None
        self._seen = self._boxes = np.zeros((0, 4), np.float32)
        self._scores = np.zeros(0, np.float32)

    def fit(self, image_hw: tuple[int, int]) -> None:
        """Get ready for a frame of this size: of another one than the last, it is taken to show the same, scaled."""
        if self._image_hw not in (None, image_hw):
            scale_xy = np.array(image_hw[::-1]) / np.array(self._image_hw[::-1])
            self._seen, self._boxes = ((b * np.tile(scale_xy, 2)).astype(np.float32) for b in (self._seen, self._boxes))
            if self._tracker is not None:
                self._tracker.scale(scale_xy)
            if self._smoother is not None:
                self._smoother = Smoother()  # its speeds are in pixels of the old frames
        self._image_hw = image_hw

    def wants_detection(self) -> bool:
        """Whether a detector should look at the next frame."""
        every = self.following.detect_every
        return self._doubted if every is None else self._since % every == 0

    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, 4) float32 boxes around the key points of the frame before, and (N,) the scores of their people."""
        return self._boxes, self._scores

    def believed(self, boxes: np.ndarray, scores: np.ndarray, min_score: float) -> tuple[np.ndarray, np.ndarray]:
        """Of detected people the sure ones; and a doubtful one where somebody was a frame before whom no sure one is.

        A box that overlaps a surer one is the same person.
        """
        alone = suppress(boxes, scores, SAME_PLACE)
        boxes, scores = boxes[alone], scores[alone]
        sure = scores >= min_score
        places = box_iou(boxes, self._seen) > SAME_PLACE
        left = ~places[sure].any(axis=0)
        kept = sure | places[:, left].any(axis=1)
        return boxes[kept], scores[kept]

    def follow(self, poses: Poses, seconds: float, image_hw: tuple[int, int], *, detected: bool) -> Poses:
        """Take a frame's poses in, and give them with ids and smoothed, as is wanted.

        Args:
            poses: with box_scores.
            seconds: the frame's time.
            detected: the boxes are a detector's; else two that came to lie on one person are one.
        """
        scores = np.ones(len(poses)) if poses.box_scores is None else poses.box_scores
        if not detected:
            areas = np.prod(poses.boxes_xyxy[:, 2:] - poses.boxes_xyxy[:, :2], axis=1)
            kept = np.sort(oks_nms(poses.xy, scores, areas, self._sigmas, threshold=0.8, most=len(poses)))
            poses, scores = _rows(poses, kept), scores[kept]
        self._seen = poses.boxes_xyxy
        lost = self._look_ahead(poses, scores, image_hw)
        self._since = 1 if detected else self._since + 1
        self._doubted = lost or self._since >= self.following.longest
        if self._tracker is None:
            return poses
        ids = self._tracker.update(poses.boxes_xyxy, scores, poses.xy)
        xy = poses.xy if self._smoother is None else self._smoother.smooth(poses.xy, ids, seconds)
        return replace(poses, xy=xy, track_ids=ids)

    def _look_ahead(self, poses: Poses, scores: np.ndarray, image_hw: tuple[int, int]) -> bool:
        """Note where to look in the next frame; True if somebody is lost or doubted."""
        boxes, fine = boxes_around(poses.xy, poses.scores)
        height, width = image_hw
        inside = (boxes[:, 0] > -0.1 * width) & (boxes[:, 1] > -0.1 * height)
        inside &= (boxes[:, 2] < 1.1 * width) & (boxes[:, 3] < 1.1 * height)
        before = poses.boxes_xyxy[:, 2:] - poses.boxes_xyxy[:, :2]
        ratio = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.maximum(np.prod(before, axis=1), 1e-6)
        fine &= inside & (ratio > 0.4) & (ratio < 2.5)  # a pose that left its box, or fell into one corner of it
        self._boxes, self._scores = boxes[fine], scores[fine]
        return bool((~fine).any())


def boxes_around(xy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around key points: their extent, padded.

    Args:
        xy, scores: (N, K, 2) and (N, K).

    Returns:
        (N, 4) float32, image px; and (N,) bool, False where fewer than FEWEST key points are sure: their box is empty.
    """
    sure = (scores >= SURE) & np.isfinite(xy).all(axis=2)
    fine = sure.sum(axis=1) >= FEWEST
    low = np.where(sure[..., None], xy, np.inf).min(axis=1, initial=np.inf)
    high = np.where(sure[..., None], xy, -np.inf).max(axis=1, initial=-np.inf)
    low, high = (np.where(fine[:, None], corner, 0) for corner in (low, high))
    margin = PADDING * (high - low).mean(axis=1, keepdims=True)
    return np.concatenate([low - margin, high + margin], axis=1).astype(np.float32), fine


def _rows(poses: Poses, rows: np.ndarray) -> Poses:
    """Some of the people."""
    values = {key: getattr(poses, key) for key in poses.__dataclass_fields__}
    return replace(poses, **{key: value[rows] for key, value in values.items() if value is not None})
