"""One picture at several scales: the maps of a bottom-up network at several input sizes become one set of maps.

As published: heat maps (and fields) are averaged over the scales, and tags are those of the first scale alone, since
scales do not number people alike. HigherHRNet (`lib/core/inference.py`, `aggregate_results`) does so in the picture of
scale 1; lightweight OpenPose (`val.py`, `infer`) in the image, where maps are enlarged twice. Here each scale's maps
are read once, between their pixels, in the grid in which the first one's peaks are sought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgepose.backends.runtime import Arrays
from edgepose.errors import ModelFileError
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.spec import ModelSpec
from edgepose.stages.enlarge import enlarge, resample
from edgepose.stages.letterbox import Letterbox


def check_scales(spec: ModelSpec, scales: Sequence[ModelSpec]) -> None:
    """Whether networks are one network at several input sizes.

    Raises:
        ModelFileError: one differs in more than its sizes, or the network does not group key points.
    """
    if scales and not isinstance(spec.head, (Fields, Tags)):
        raise ModelFileError(
            f"{spec.name} has a {spec.head.kind} head, of which no test at several scales was published"
        )
    for other in scales:
        if _without_sizes(other) != _without_sizes(spec):
            raise ModelFileError(
                f"{other.name} is no other scale of {spec.name}: but for input and map sizes their specs must be the "
                f"same (colour order, mean, std, resize, head and skeleton)"
            )


def merge_scales(scales: Sequence[tuple[Arrays, Letterbox]], head: Fields | Tags) -> tuple[Arrays, Fields | Tags]:
    """The maps of one image at several scales as one set, and the head that reads them.

    Args:
        scales: the outputs by name, without the batch, and how the image lies in each input; the first is the scale
            whose people are wanted.
        head: of the first.

    Returns:
        outputs: enlarged as the first ones would be; what lies beyond a scale's own maps counts as 0 there.
        head: the same, for maps that are large already.
    """
    (first, letterbox), *others = scales
    interpolation = "cubic" if isinstance(head, Fields) else "linear"
    merged = {name: enlarge(maps, head.upsample, interpolation) for name, maps in first.items()}
    grid_hw = (merged["heatmaps"].shape[1], merged["heatmaps"].shape[2])
    for name in merged:
        if name == "tags":
            continue
        merged[name] = merged[name] / np.float32(len(scales))  # of one scale the enlarged maps are the network's own
        for outputs, other in others:
            maps = np.asarray(outputs[name], np.float32)
            columns, rows = _positions(grid_hw, letterbox, maps.shape[1:], other)
            merged[name] += resample(maps, rows, columns, interpolation) / np.float32(len(scales))
    return merged, replace(head, upsample=1, size_hw=grid_hw)


def _positions(
    grid_hw: tuple[int, int], letterbox: Letterbox, maps_hw: tuple[int, ...], other: Letterbox
) -> tuple[np.ndarray, np.ndarray]:
    """Where a grid's columns and rows lie in another scale's maps, px (integers at pixel centres)."""
    found = []
    for axis in (0, 1):  # x, y
        count = grid_hw[1 - axis]
        edges = np.zeros((count, 2))
        edges[:, axis] = (np.arange(count) + 0.5) * (letterbox.input_hw[1 - axis] / count)
        inside = other.to_input(letterbox.to_image(edges))[:, axis]
        found.append(inside * (maps_hw[1 - axis] / other.input_hw[1 - axis]) - 0.5)
    return found[0], found[1]


def _without_sizes(spec: ModelSpec) -> tuple[object, ...]:
    head = replace(spec.head, size_hw=(2, 2)) if isinstance(spec.head, (Fields, Tags)) else spec.head
    return replace(spec.image, size_hw=(2, 2)), head, spec.skeleton
