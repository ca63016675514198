"""The outputs of a network that gives boxes and key points in one, to the people of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgepose.model.heads.people import People
from edgepose.model.spec import ModelSpec
from edgepose.stages.letterbox import Letterbox
from edgepose.stages.people import decode_people
from edgepose.stages.poses import Poses

MOST = 100  # people an image; what a bad network finds beyond is the least sure


def find_people(
    outputs: Mapping[str, np.ndarray], spec: ModelSpec, letterbox: Letterbox, *, min_score: float = 0.0
) -> tuple[Poses, np.ndarray]:
    """The people of one picture.

    Positions go back through the letterbox as they are, without half a px of shift: as published for these networks.

    Args:
        outputs: the network's, by name, of a batch of one.
        letterbox: how the image was laid into the network's input.
        min_score: people of a lower score are left out; the head's own bound holds as well.

    Returns:
        N people, best first, boxes cut off at the image's edges, and (N,) float32 their scores. N is 100 at most.
    """
    head = spec.head
    assert isinstance(head, People)
    head = replace(head, min_score=max(head.min_score, min(min_score, 1.0)))
    (found,) = decode_people(outputs, head, spec.num_keypoints, letterbox.input_hw)
    xy = letterbox.to_image(found.keypoints[:MOST, :, :2])
    scores = found.box_scores[:MOST].astype(np.float32)
    boxes = letterbox.boxes_to_image(found.boxes_xyxy[:MOST])
    return Poses(xy, found.keypoints[:MOST, :, 2], boxes, box_scores=scores), scores
