"""The kernels around bottom-up networks on the GPU against their numpy twins, on drawn crowds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from edgepose.benchmarks.gpu.launch import Kernels
from edgepose.benchmarks.gpu.rows import Check, Finding
from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.stages.field_grouping import decode_fields, group_connected, keypoints_of
from edgepose.stages.tag_grouping import decode_tags, people_of

PEOPLE, MAPS_HW = 12, (46, 62)
SCORE = 1e-4  # sums of some 40 heights and strengths, each interpolated in another order


def map_checks(kernels: Kernels) -> Iterator[Check]:
    """People out of fields and out of tags, maps in both types."""
    for dtype in (np.float32, np.float16):
        yield f"people of fields, {np.dtype(dtype).name}", partial(check_fields, kernels, dtype)
        yield f"people of tags, {np.dtype(dtype).name}", partial(check_tags, kernels, dtype)


def check_fields(kernels: Kernels, dtype: type) -> Finding:
    """Candidates, and how strongly limbs connect them."""
    rng = np.random.default_rng(0)
    points = draw_people(PEOPLE, MAPS_HW, rng, height=35)
    heatmaps, drawn = draw_maps(points, MAPS_HW, rng)
    maps: list[np.ndarray] = [heatmaps.astype(dtype), draw_fields(points, drawn, MAPS_HW, rng).astype(dtype)]
    head = Fields(MAPS_HW, peak_distance=3)
    with _placed(kernels, maps, head) as on_gpu:
        peaks = on_gpu.find_points()
        found = keypoints_of(peaks, group_connected(peaks, on_gpu.strengths, head), head)
    return _compare(found, decode_fields(maps[0], maps[1], head))


def check_tags(kernels: Kernels, dtype: type) -> Finding:
    """Peaks, single pixels, and the best places of missing key points."""
    rng = np.random.default_rng(0)
    points = draw_people(PEOPLE, MAPS_HW, rng, height=35)[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, MAPS_HW, rng)
    maps: list[np.ndarray] = [heatmaps.astype(dtype), draw_tags(points, drawn, MAPS_HW, rng, apart=3).astype(dtype)]
    head = Tags(MAPS_HW, upsample=2)
    with _placed(kernels, maps, head) as on_gpu:
        peaks, counts = on_gpu.find_peaks()
        found = people_of(on_gpu, peaks, counts, head)
    return _compare(found, decode_tags(maps[0], maps[1], head))


@contextmanager
def _placed(kernels: Kernels, maps: list[np.ndarray], head: Fields | Tags) -> Iterator[Any]:
    from edgepose.cuda.maps import FieldsOnGpu, Placed, TagsOnGpu  # pycuda

    with ExitStack() as resources:
        uploaded = [kernels.upload(array) for array in maps]
        placed = [Placed(memory.address, maps[0].dtype == np.float16) for memory in uploaded]
        kind: Any = FieldsOnGpu if isinstance(head, Fields) else TagsOnGpu
        yield kind(kernels.module, kernels.stream, *placed, head, resources)


def _compare(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> Finding:
    """Equal people, key point for key point; heights and scores to rounding."""
    if found[0].shape != wanted[0].shape:
        return Finding(False, f"{len(found[0])} people", f"{len(wanted[0])} people")
    places = int((~np.isclose(found[0][..., :2], wanted[0][..., :2], atol=1e-3, equal_nan=True)).any(axis=2).sum())
    apart = float(np.abs(found[0][..., 2] - wanted[0][..., 2]).max(initial=0))
    text = f"{len(found[0])} people, {places} key points elsewhere, heights differ by {apart:.1e} at most"
    fine = len(found[0]) >= PEOPLE // 2 and places == 0 and apart <= SCORE
    return Finding(bool(fine and np.allclose(found[1], wanted[1], rtol=SCORE)), text, f"none, {SCORE:g}")
