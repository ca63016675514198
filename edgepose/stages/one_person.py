"""From the outputs of a network that looks at one person a crop to key points, whatever kind its head is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgepose.errors import ModelFileError
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.people import People
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.depth import check_root
from edgepose.stages.people import decode_one_person
from edgepose.stages.simcc import decode_depth, decode_simcc, merge_flipped_simcc
from edgepose.stages.volume import decode_volume, merge_mirrored

Outputs = Mapping[str, np.ndarray]
KINDS = (Heatmaps, HeatmapsWithOffsets, SimCC, Volume)


def check_person_head(spec: ModelSpec) -> None:
    """ModelFileError unless the network finds one person's key points in a crop, in space only with a known root."""
    if isinstance(spec.head, People) and spec.region is not None:
        return
    if not isinstance(spec.head, KINDS):
        swapped = "; were --detector and --engine swapped?" if isinstance(spec.head, Detections) else ""
        swapped = "; a lifter goes behind such a network: --lift" if isinstance(spec.head, Lift) else swapped
        raise ModelFileError(
            f"{spec.name} does not find one person's key points in a crop (its head is {spec.head.kind}): wanted is "
            f"one of {', '.join(kind.kind for kind in KINDS)}{swapped}"
        )
    check_root(spec)


def decode_outputs(outputs: Outputs, spec: ModelSpec) -> tuple[np.ndarray, tuple[int, int]]:
    """Key points of N crops.

    Args:
        outputs: the network's, by name.

    Returns:
        (N, K, 3) float32 of x, y, score, and with `ModelSpec.gives_depth` (N, K, 4), the depth in metres behind the
        root last; and the height and width of the grid whose px x and y are: the heat map's or volume's, or the input's
        of a network without maps.

    Raises:
        ModelFileError: the head is not of one person a crop.
    """
    head = spec.head
    if isinstance(head, (Heatmaps, HeatmapsWithOffsets)):
        return decode_heatmaps(outputs["heatmaps"], spec), head.size_hw
    if isinstance(head, SimCC):
        keypoints = decode_simcc(outputs["simcc_x"], outputs["simcc_y"], head)
        if head.depth_bins:
            depth = decode_depth(outputs["simcc_z"], keypoints, head)
            keypoints = np.concatenate([keypoints, depth[..., None]], axis=2)
        return keypoints, spec.image.size_hw
    if isinstance(head, Volume):
        return volume_keypoints(decode_volume(outputs["volume"], head), None, spec), spec.grid_hw
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
        if not spec.gives_depth:
            return {"simcc_x": x, "simcc_y": y}
        z = np.float32(0.5) * (outputs["simcc_z"] + flipped["simcc_z"][:, spec.skeleton.flip_order])
        return {"simcc_x": x, "simcc_y": y, "simcc_z": z}
    return {"heatmaps": merge_flipped(outputs["heatmaps"], flipped["heatmaps"], spec)}


def decode_flipped_outputs(outputs: Outputs, flipped: Outputs, spec: ModelSpec) -> tuple[np.ndarray, tuple[int, int]]:
    """`decode_outputs` with the flip test: of volumes places are averaged, of other heads the outputs themselves.

    Raises:
        ModelFileError: no flip test was published for the head.
    """
    if not isinstance(spec.head, Volume):
        return decode_outputs(merge_flipped_outputs(outputs, flipped, spec), spec)
    straight, mirrored = (decode_volume(each["volume"], spec.head) for each in (outputs, flipped))
    return volume_keypoints(straight, mirrored, spec), spec.grid_hw


def volume_keypoints(straight: np.ndarray, mirrored: np.ndarray | None, spec: ModelSpec) -> np.ndarray:
    """(N, K, 4) of x, y, depth, score, as `decode_volume` gives them, to (N, K, 4) of x, y, score, depth.

    Args:
        mirrored: of the mirrored crops, for the flip test; None without it.
    """
    assert isinstance(spec.head, Volume)
    if mirrored is not None:
        straight = merge_mirrored(straight, mirrored, spec.skeleton.flip_order, spec.head.volume_dhw[2])
    return straight[..., [0, 1, 3, 2]]
