"""A bottom-up network's outputs to people in the image: key points of all people first, then whose they are.

There are no boxes and no detector; how long it takes hardly depends on how many people there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgepose.backends.runtime import Arrays
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.field_grouping import decode_fields
from edgepose.stages.letterbox import Letterbox
from edgepose.stages.poses import Poses
from edgepose.stages.tag_grouping import decode_tags

MARGIN = 0.5  # image px that a person's box reaches beyond the centres of the outermost key points


def find_people(outputs: Arrays, head: Fields | Tags, letterbox: Letterbox) -> tuple[Poses, np.ndarray]:
    """The people of one picture.

    Args:
        outputs: the network's, by name, without the batch; of a flip test what `merge_mirrored` gives.
        letterbox: how the image was laid into the network's input.

    Returns:
        N people, and (N,) float32 how sure each is: of fields a sum, which may be over 1. A key point that was not
        found is NaN, of score 0. Boxes go round the key points found. N may be 0.

    Raises:
        ValueError: outputs of other names or shapes than the head says.
    """
    keypoints, scores = _decoded(outputs, head)
    height, width = outputs["heatmaps"].shape[-2:]
    return in_image(keypoints, scores, (height, width), letterbox)


def in_image(
    keypoints: np.ndarray, scores: np.ndarray, maps_hw: tuple[int, int], letterbox: Letterbox
) -> tuple[Poses, np.ndarray]:
    """What `find_people` returns, of (N, K, 3) key points in px of maps of a size."""
    per_map_px = np.array(letterbox.input_hw[::-1]) / maps_hw[::-1]
    xy = letterbox.to_image((keypoints[..., :2] + 0.5) * per_map_px) - np.float32(0.5)
    boxes = np.zeros((len(xy), 4), np.float32)
    if len(xy):  # each has a key point
        boxes = np.concatenate([np.nanmin(xy, axis=1) - MARGIN, np.nanmax(xy, axis=1) + MARGIN], axis=1)
    return Poses(xy, keypoints[..., 2], boxes.astype(np.float32)), scores


def merge_mirrored(outputs: Arrays, mirrored: Arrays, head: Fields | Tags, flip_order: Sequence[int]) -> Arrays:
    """The outputs of a picture and of its mirror image as one: heat maps averaged, tags side by side.

    As published for associative embedding (HigherHRNet `get_multi_stage_outputs`, mmpose `AssociativeEmbeddingHead`);
    nobody published a flip test of part affinity fields.

    Args:
        outputs, mirrored: by name, without the batch.
        flip_order: of the skeleton: out[k] = mirrored[flip_order[k]].

    Raises:
        ValueError: a head of fields.
    """
    if not isinstance(head, Tags):
        raise ValueError(f"there is no flip test of {head.kind}: wanted a head of tags")
    order = np.asarray(flip_order)
    heatmaps = (outputs["heatmaps"] + mirrored["heatmaps"][order, :, ::-1]) / 2
    maps = mirrored["tags"].reshape(head.tag_size, len(order), *mirrored["tags"].shape[1:])
    turned = maps[:, order, :, ::-1].reshape(mirrored["tags"].shape)
    return {"heatmaps": heatmaps, "tags": np.concatenate([outputs["tags"], turned])}


def _decoded(outputs: Arrays, head: Fields | Tags) -> tuple[np.ndarray, np.ndarray]:
    wanted = ("heatmaps",) if isinstance(head, Fields) and head.joined else ("heatmaps", "pafs")
    wanted = ("heatmaps", "tags") if isinstance(head, Tags) else wanted
    if missing := [name for name in wanted if name not in outputs]:
        raise ValueError(f"the outputs must have {' and '.join(missing)}; found {', '.join(outputs) or 'none'}")
    heatmaps = outputs["heatmaps"]
    if isinstance(head, Tags):
        return decode_tags(heatmaps, outputs["tags"], head)
    if head.joined:
        first = len(heatmaps) - 2 * len(head.limbs)
        return decode_fields(heatmaps[:first], heatmaps[first:], head)
    return decode_fields(heatmaps, outputs["pafs"], head)
