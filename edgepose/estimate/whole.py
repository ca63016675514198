"""Whole images to people with key points: networks that need no boxes, whatever kind their head is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from edgepose.backends.runtime import Arrays, Grouping, Runtime
from edgepose.errors import ModelFileError
from edgepose.estimate import bottom_up, one_stage
from edgepose.estimate.follow import Follower, Following
from edgepose.estimate.scales import check_scales, merge_scales
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
    runtime: Runtime,
    image: np.ndarray | Frame,
    *,
    flip_test: bool = False,
    min_score: float = 0.0,
    scales: Sequence[Runtime] = (),
) -> tuple[Poses, np.ndarray]:
    """Find all people in an image.

    Args:
        runtime: from `load_runtime`, of a network of which `finds_everybody` is true.
        image: (H, W, 3) uint8 RGB, or a Frame.
        flip_test: with the mirrored picture as well, as published accuracies of tags do; costs twice the network.
        min_score: people of a lower score are left out.
        scales: the same bottom-up network at other input sizes, whose maps are averaged with its own: `merge_scales`.

    Returns:
        N people and (N,) float32 how sure each is: of fields a sum, which may be over 1; of a head of people, best
        first. A key point that was not found is NaN, of score 0. N may be 0.

    Raises:
        ModelFileError: the network finds something else, there is no flip test of its head, or a scale is of another
            network.
        BackendError: the runtime failed.
    """
    spec = runtime.passport.spec
    head = head_of(spec)
    if flip_test and not isinstance(head, Tags):
        raise ModelFileError(f"{spec.name} has a {head.kind} head, of which no flip test was published: leave it out")
    check_scales(spec, [each.passport.spec for each in scales])
    pixels = image.to_rgb() if isinstance(image, Frame) else image
    if isinstance(head, People):
        letterbox, found = _look(runtime, pixels, flip_test=False)
        with stage("decode"):
            return one_stage.find_people(found, spec, letterbox, min_score=min_score)
    if isinstance(runtime, Grouping) and not flip_test and not scales:
        letterbox, picture = _lay_out(runtime, pixels)
        keypoints, scores = runtime.people(picture)
        return _sure(*bottom_up.in_image(keypoints, scores, head.size_hw, letterbox), min_score)
    looks = [_merged_look(each, pixels, flip_test=flip_test) for each in (runtime, *scales)]
    outputs, letterbox = looks[0]
    if scales:
        with stage("scales"):
            outputs, head = merge_scales(looks, head)
    return _sure(*bottom_up.find_people(outputs, head, letterbox), min_score)


def _sure(poses: Poses, scores: np.ndarray, min_score: float) -> tuple[Poses, np.ndarray]:
    kept = scores >= min_score
    return Poses(poses.xy[kept], poses.scores[kept], poses.boxes_xyxy[kept]), scores[kept]


def _merged_look(runtime: Runtime, pixels: np.ndarray, *, flip_test: bool) -> tuple[Arrays, Letterbox]:
    """A bottom-up network's outputs by name, without the batch, with those of the mirror image; and the letterbox."""
    spec = runtime.passport.spec
    head = head_of(spec)
    assert isinstance(head, (Fields, Tags))
    letterbox, found = _look(runtime, pixels, flip_test=flip_test)
    outputs, *mirrored = ({name: maps[i] for name, maps in found.items()} for i in range(1 + flip_test))
    if not mirrored:
        return outputs, letterbox
    return bottom_up.merge_mirrored(outputs, mirrored[0], head, spec.skeleton.flip_order), letterbox


def _look(runtime: Runtime, pixels: np.ndarray, *, flip_test: bool) -> tuple[Letterbox, Arrays]:
    """How the image lies in the input, and the outputs by name, of it and, in a flip test, of its mirror image."""
    letterbox, pictures = _lay_out(runtime, pixels)
    if flip_test:
        with stage("letterbox"):
            pictures = np.concatenate([pictures, pictures[..., ::-1]])
    with stage("network"):
        found = runtime.run({"images": pictures})
    return letterbox, found


def _lay_out(runtime: Runtime, pixels: np.ndarray) -> tuple[Letterbox, np.ndarray]:
    """How the image lies in the input, and (1, 3, H, W) float32 of it."""
    picture = runtime.passport.spec.image
    with stage("letterbox"):
        letterbox = Letterbox.of((pixels.shape[0], pixels.shape[1]), picture)
        return letterbox, np.ascontiguousarray(as_input(pixels, letterbox, picture)[None])


class WholeFollowers:
    """Follows the people of several videos with a network that finds everybody in each frame anew.

    Args:
        runtime: see `estimate_people`.
        videos: how many.
        following: how people are followed; `detect_every` must be 1.
        flip_test, min_score, scales: see `estimate_people`.
    """

    def __init__(
        self,
        runtime: Runtime,
        videos: int,
        following: Following | None = None,
        *,
        flip_test: bool = False,
        min_score: float = 0.0,
        scales: Sequence[Runtime] = (),
    ) -> None:
        following = following or Following()
        if following.detect_every != 1:
            raise ValueError(f"every frame is looked at: detect_every must be 1, got {following.detect_every}")
        self._find = partial(estimate_people, runtime, flip_test=flip_test, min_score=min_score, scales=scales)
        spec = runtime.passport.spec
        if following.tracking is None and not isinstance(spec.head, People):
            following = replace(following, tracking=GROUPED)
        self._followers = [Follower(spec.skeleton, following) for _ in range(videos)]

    def take(self, frames: Sequence[tuple[int, np.ndarray | Frame, float]]) -> list[Poses]:
        """The poses of one frame of each of some videos: (number of the video, image, seconds)."""
        followed = []
        for video, image, seconds in frames:
            poses, scores = self._find(image)
            image_hw = image.hw if isinstance(image, Frame) else (image.shape[0], image.shape[1])
            poses = replace(poses, box_scores=scores)
            self._followers[video].fit(image_hw)
            followed.append(self._followers[video].follow(poses, seconds, image_hw, detected=True))
        return followed
