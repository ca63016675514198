"""How fast the kernels are, against a device-to-device copy that moves as many bytes, timed in the same run.

From L2: all launches use the same memory. From DRAM: they go round enough of it that no GPU's L2 holds it (an H100's
is 50 MB), which is what a kernel finds when other work lies between two frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from edgepose.benchmarks.gpu.kernel_checks import SPEC, drawn_maps
from edgepose.benchmarks.gpu.launch import Kernels, Launch
from edgepose.benchmarks.gpu.rows import Check, Finding
from edgepose.benchmarks.latency import FRAME_HW, make_frame
from edgepose.evaluation.plan_inputs import as_frame
from edgepose.model.heads.heatmaps import DECODERS
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions

DECODE_FLOOR_US, CROP_FLOOR_US = 4.0, 5.0
TIMES_THE_BYTES = 2.0
MEMORY_TO_GO_ROUND = 256 << 20  # bytes
LAUNCHES, REPEATS = 20, 50
DECODE_PEOPLE, CROP_PEOPLE = 64, (8, 64)


def limit_us(bytes_us: float, floor_us: float) -> float:
    """The most a kernel may take: twice the time of its bytes, or the floor where that is more."""
    return max(TIMES_THE_BYTES * bytes_us, floor_us)


def speed_checks(kernels: Kernels) -> Iterator[Check]:
    """All timings; those of quarter decoding in FP16 and of crops have limits, the others are only stated."""
    for where in ("L2", "DRAM"):
        yield f"decode quarter, 64 x 17 x 64 x 48 FP16, from {where}", partial(time_decode, kernels, "quarter", where)
        for people in CROP_PEOPLE:
            for dtype in (np.float32, np.float16):
                name = f"crop of {people} people, 1080p RGB to {np.dtype(dtype).name}, from {where}"
                yield name, partial(time_crop, kernels, people, "rgb", dtype, where)
    for people in CROP_PEOPLE:
        name = f"crop of {people} people, 1080p NV12 to float16, from L2"
        yield name, partial(time_crop, kernels, people, "nv12", np.float16, "L2")
    for decoder in DECODERS:
        if decoder != "quarter":
            name = f"decode {decoder}, the same maps, from L2"
            yield name, partial(time_decode, kernels, decoder, "L2", limited=False)


def time_decode(kernels: Kernels, decoder: str, where: str, *, limited: bool = True) -> Finding:
    """Decoding of 64 people's maps, mapped to the image."""
    spec = SPEC.changed(decoder=decoder)
    heatmaps = drawn_maps(spec, DECODE_PEOPLE, 0, np.float16)
    regions = Regions.around(make_frame(DECODE_PEOPLE)[1], spec)
    written = DECODE_PEOPLE * spec.num_keypoints * 12
    return _time(
        kernels,
        lambda: kernels.decode(heatmaps, spec, None, regions),
        heatmaps.nbytes + written,
        DECODE_FLOOR_US if limited else None,
        where,
    )


def time_crop(kernels: Kernels, people: int, frame_format: str, dtype: type, where: str) -> Finding:
    """Crops of a 1080p frame, for a network of 256 x 192."""
    image, boxes = make_frame(people)
    frame, _ = as_frame(image, frame_format)
    regions = Regions.around(boxes, SPEC)
    written = people * 3 * SPEC.image.size_hw[0] * SPEC.image.size_hw[1] * np.dtype(dtype).itemsize
    return _time(
        kernels,
        lambda: kernels.crop(frame, regions, SPEC, dtype, mirrored=False),
        written + bytes_seen(frame, regions),
        CROP_FLOOR_US,
        where,
    )


def bytes_seen(frame: Frame, regions: Regions) -> int:
    """Bytes of the frame's part that lies in any region: each is read at least once."""
    seen = np.zeros(FRAME_HW, bool)
    low = np.maximum(regions.center_xy - regions.size_wh / 2, 0).astype(int)
    high = np.maximum(np.ceil(regions.center_xy + regions.size_wh / 2), 0).astype(int)
    for (left, top), (right, bottom) in zip(low, high, strict=True):
        seen[top:bottom, left:right] = True
    return int(seen.mean() * frame.pixels.nbytes)


def _time(kernels: Kernels, make: Callable[[], Launch], nbytes: int, floor_us: float | None, where: str) -> Finding:
    sets = 1 if where == "L2" else -(-MEMORY_TO_GO_ROUND // nbytes)
    launches = [make() for _ in range(sets)]
    rounds = max(1, LAUNCHES // sets)
    kernel_us = kernels.time_us(launches * rounds, REPEATS)
    del launches
    copy_us = kernels.time_us([kernels.copy(nbytes) for _ in range(sets)] * rounds, REPEATS)
    found = f"{kernel_us:.2f} us; a copy of its {nbytes / 1e6:.1f} MB {copy_us:.2f} us"
    if floor_us is None:
        return Finding(True, found)
    limit = limit_us(copy_us, floor_us)
    return Finding(kernel_us <= limit, found, f"{limit:.2f} us: {TIMES_THE_BYTES:g}x the copy, or {floor_us:g} us")
