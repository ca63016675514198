"""Is a plan right whose crops the CPU cuts out: of volumes, of RTMW3D, of SimCC without kernels? As plan_check.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from edgepose.backends.host import HostBackend
from edgepose.backends.runtime import Decoding
from edgepose.evaluation.agreement import CLEAR, rounded
from edgepose.evaluation.plan_check import (
    DECODED_PX,
    PlanCheck,
    Row,
    network_rows,
    precision_rows,
    repetition_row,
    shift_row,
    worst_of,
)
from edgepose.evaluation.plan_inputs import PEOPLE, Crowd, Picture, counts_of, crowd_of, decoded, moved, usable_pictures
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.one_person import Outputs

DECODED_M = 1e-3  # of depth


@dataclass(frozen=True)
class Shown:
    """A picture with a crowd, its crops (M, 3, H, W), and the CPU's outputs for them and for their mirror images."""

    image: np.ndarray
    crowd: Crowd
    crops: np.ndarray
    outputs: Outputs
    flipped: Outputs


def check_vectors(
    cpu: HostBackend,
    plan: HostBackend,
    pictures: Sequence[Picture],
    *,
    repeats: int = 200,
    narrow: Callable[[np.ndarray], str] | None = None,
) -> PlanCheck:
    """Compare such a plan with the ONNX that it was made from; see `check_plan`.

    Raises:
        InputError: no picture has a usable box.
        BackendError: the GPU or a CPU runtime failed.
    """
    pictures = usable_pictures(pictures)
    spec, most = plan.spec, plan.passport.plan.max_batch
    shown = [_shown(cpu, image, crowd_of(boxes, most, PEOPLE // len(pictures), spec)) for image, boxes in pictures]
    first = shown[0]
    who, nudged = first.crowd.who, cpu.run(rounded(first.crops))
    rows, errors = network_rows(plan.run(first.crops[who]), first.outputs, nudged, who, cpu.passport.precision)
    layer = ""
    if narrow is not None and not all(row.agrees for row in rows):
        layer = narrow(first.crops[worst_of(errors, who)][None])
    margins = {name: CLEAR * float(each.max()) for name, each in errors.items()}
    rows += _decode_rows(plan, first, margins)
    rows += _keypoint_rows(plan, shown, margins)
    rows.append(repetition_row(plan, [(each.image, each.crowd.regions) for each in shown], repeats))
    rows += precision_rows(plan.passport.plan.computes)
    return PlanCheck(tuple(rows), layer)


def _shown(cpu: HostBackend, image: np.ndarray, crowd: Crowd) -> Shown:
    crops = cut_out(image, crowd.some, cpu.spec)
    return Shown(image, crowd, crops, cpu.run(crops), cpu.run(mirror(crops)))


def _decode_rows(plan: HostBackend, shown: Shown, margins: Mapping[str, float]) -> Iterator[Row]:
    """What the GPU reads from the plan's own outputs, against numpy."""
    spec, runtime, crops = plan.spec, plan.runtime, shown.crops[shown.crowd.who]
    if not isinstance(runtime, Decoding):
        return
    outputs, flipped = plan.run(crops), plan.run(mirror(crops))
    for flip_test in (False, True):
        if not runtime.decodes(flip_test=flip_test):
            continue
        wanted, clear, _ = decoded(outputs, flipped if flip_test else None, spec, margins)
        difference = np.abs(runtime.keypoints(crops, flip_test=flip_test) - wanted)[clear]
        if not difference.size:
            continue
        px, depth = difference[:, :2].max(), difference[:, 3:].max(initial=0)
        found = f"{px:.4f} {spec.grid_unit} at most, of {len(difference)} clear points" + (
            f"; {depth:.4f} m of depth" if spec.gives_depth else ""
        )
        right = bool(px <= DECODED_PX and depth <= DECODED_M)
        name = f"the plan's outputs decoded{', flip test' * flip_test}"
        yield Row("decoding kernel", name, right, found, f"{DECODED_PX:g}")


def _keypoint_rows(plan: HostBackend, shown: Sequence[Shown], margins: Mapping[str, float]) -> Iterator[Row]:
    """The whole data path, for one, an odd number and the most people, with and without flip test."""
    spec = plan.spec
    for count, flip_test in product(counts_of(plan.passport.plan.max_batch), (False, True)):
        shifts = []
        for each in shown:
            keypoints, clear, grid_hw = decoded(each.outputs, each.flipped if flip_test else None, spec, margins)
            who, some = each.crowd.who[:count], each.crowd.regions.rows(slice(count))
            xy = some.to_image(keypoints[who][..., :2], grid_hw)
            found = plan.keypoints(each.image, some, flip_test=flip_test)
            shifts.append(moved(found, xy, some, spec)[clear[who]])
        name = f"key points of {count}{', flip test' * flip_test}"
        yield shift_row("key points", name, np.concatenate(shifts), spec.grid_unit)
