"""From the outputs of a network that looks at one person a crop to key points, whatever kind its head is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepose.errors import ModelFileError
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.people import People
from edgepose.model.heads.simcc import SimCC
from edgepose.model.spec import ModelSpec
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.people import decode_one_person
from edgepose.stages.simcc import decode_simcc, merge_flipped_simcc

Outputs = Mapping[str, np.ndarray]
KINDS = (Heatmaps, HeatmapsWithOffsets, SimCC)


def check_person_head(spec: ModelSpec) -> None:
    """ModelFileError unless the network finds one person's key points in a crop."""
    if isinstance(spec.head, People) and spec.region is not None:
        return
    if not isinstance(spec.head, KINDS):
        raise ModelFileError(
            f"{spec.name} does not find one person's key points in a crop (its head is {spec.head.kind}): wanted is "
            f"one of {', '.join(kind.kind for kind in KINDS)}"
        )


def decode_outputs(outputs: Outputs, spec: ModelSpec) -> tuple[np.ndarray, tuple[int, int]]:
    """Key points of N crops.

    Args:
        outputs: the network's, by name.

    Returns:
        (N, K, 3) float32 of x, y, score, and the height and width of the grid whose px x and y are: the heat map's, or
        the input's of a network without maps.

    Raises:
        ModelFileError: the head is not of one person a crop.
    """
    head = spec.head
    if isinstance(head, (Heatmaps, HeatmapsWithOffsets)):
        return decode_heatmaps(outputs["heatmaps"], spec), head.size_hw
    if isinstance(head, SimCC):
        return decode_simcc(outputs["simcc_x"], outputs["simcc_y"], head), spec.image.size_hw
    check_person_head(spec)
    if isinstance(head, People):
        return decode_one_person(outputs, head, spec.num_keypoints, spec.image.size_hw), spec.image.size_hw
    raise AssertionError(f"{head.kind} passed the check and has no decoder")


def merge_flipped_outputs(outputs: Outputs, flipped: Outputs, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The flip test: outputs of crops averaged with those of their mirror images, as published for each head.

    Raises:
        ModelFileError: none was published for the head.
    """
    if isinstance(spec.head, People):
        raise ModelFileError(f"{spec.name} has a people head, of which no flip test was published: leave it out")
    if isinstance(spec.head, SimCC):
        straight, mirrored = ((each["simcc_x"], each["simcc_y"]) for each in (outputs, flipped))
        x, y = merge_flipped_simcc(straight, mirrored, spec.skeleton.flip_order)
        return {"simcc_x": x, "simcc_y": y}
    return {"heatmaps": merge_flipped(outputs["heatmaps"], flipped["heatmaps"], spec)}
