"""Whole images to people with key points: networks that need no boxes, whatever kind their head is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgepose.backends.runtime import Runtime
from edgepose.errors import ModelFileError
from edgepose.estimate import bottom_up, one_stage
from edgepose.estimate.follow import Follower, Following
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.people import People
from edgepose.model.heads.tags import Tags
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.letterbox import Letterbox, as_input
from edgepose.stages.poses import Poses
from edgepose.stages.tracking import TrackingSettings
from edgepose.timing import stage

# Of key points that were grouped: the network's own thresholds have said who is a person, whatever the score. A box
# grows and shrinks with the key points that are found, so those are compared: docs/measurements/bottom_up.md.
GROUPED = TrackingSettings(new_score=-np.inf, least_similarity=0.2, pose_weight=1.0)


def finds_everybody(spec: ModelSpec) -> bool:
    """Whether the network takes a whole image and gives people with key points."""
    return isinstance(spec.head, (Fields, Tags, People)) and spec.region is None


def head_of(spec: ModelSpec) -> Fields | Tags | People:
    """The head of such a network; ModelFileError where it is another."""
    if not finds_everybody(spec) or not isinstance(spec.head, (Fields, Tags, People)):
        raise ModelFileError(
            f"{spec.name} does not find everybody in a whole image (its head is {spec.head.kind}): wanted is one of "
            f"fields, tags, people"
        )
    return spec.head


def estimate_people(
    runtime: Runtime, image: np.ndarray | Frame, *, flip_test: bool = False, min_score: float = 0.0
) -> tuple[Poses, np.ndarray]:
    """Find all people in an image.

    Args:
        runtime: from `load_runtime`, of a network of which `finds_everybody` is true.
        image: (H, W, 3) uint8 RGB, or a Frame.
        flip_test: with the mirrored picture as well, as published accuracies of tags do; costs twice the network.
        min_score: people of a lower score are left out.

    Returns:
        N people, best first, and (N,) float32 how sure each is: of fields a sum, which may be over 1. A key point that
        was not found is NaN, of score 0. N may be 0.

    Raises:
        ModelFileError: the network finds something else, or there is no flip test of its head.
        BackendError: the runtime failed.
    """
    spec = runtime.passport.spec
    head = head_of(spec)
    if flip_test and not isinstance(head, Tags):
        raise ModelFileError(f"{spec.name} has a {head.kind} head, of which no flip test was published: leave it out")
    with stage("letterbox"):
        pixels = image.to_rgb() if isinstance(image, Frame) else image
        letterbox = Letterbox.of((pixels.shape[0], pixels.shape[1]), spec.image)
        pictures = as_input(pixels, letterbox, spec.image)[None]
        if flip_test:
            pictures = np.concatenate([pictures, pictures[..., ::-1]])
    with stage("network"):
        found = runtime.run({"images": np.ascontiguousarray(pictures)})
    if isinstance(head, People):
        with stage("decode"):
            return one_stage.find_people(found, spec, letterbox, min_score=min_score)
    outputs, *mirrored = ({name: maps[i] for name, maps in found.items()} for i in range(len(pictures)))
    if mirrored:
        outputs = dict(bottom_up.merge_mirrored(outputs, mirrored[0], head, spec.skeleton.flip_order))
    poses, scores = bottom_up.find_people(outputs, head, letterbox)
    kept = scores >= min_score
    return Poses(poses.xy[kept], poses.scores[kept], poses.boxes_xyxy[kept]), scores[kept]


class WholeFollowers:
    """Follows the people of several videos with a network that finds everybody in each frame anew.

    Args:
        runtime: see `estimate_people`.
        videos: how many.
        following: how people are followed; `detect_every` must be 1.
        flip_test, min_score: see `estimate_people`.
    """

    def __init__(
        self,
        runtime: Runtime,
        videos: int,
        following: Following | None = None,
        *,
        flip_test: bool = False,
        min_score: float = 0.0,
    ) -> None:
        following = following or Following()
        if following.detect_every != 1:
            raise ValueError(f"every frame is looked at: detect_every must be 1, got {following.detect_every}")
        self._runtime, self._flip_test, self._min_score = runtime, flip_test, min_score
        spec = runtime.passport.spec
        if following.tracking is None and not isinstance(spec.head, People):
            following = replace(following, tracking=GROUPED)
        self._followers = [Follower(spec.skeleton, following) for _ in range(videos)]

    def take(self, frames: Sequence[tuple[int, np.ndarray | Frame, float]]) -> list[Poses]:
        """The poses of one frame of each of some videos: (number of the video, image, seconds)."""
        followed = []
        for video, image, seconds in frames:
            poses, scores = estimate_people(self._runtime, image, flip_test=self._flip_test, min_score=self._min_score)
            image_hw = image.hw if isinstance(image, Frame) else (image.shape[0], image.shape[1])
            poses = replace(poses, box_scores=scores)
            followed.append(self._followers[video].follow(poses, seconds, image_hw, detected=True))
        return followed
