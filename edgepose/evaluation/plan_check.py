"""Is a plan right on this device? Its key points against the exact CPU's, and where they differ, which part is wrong.

The network's share of an error is told from that of the crop and decoding kernels by comparing each with its numpy
twin on the same input; what is right launch by launch and wrong replayed is the CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from edgepose.backends import Backend, Pipelined
from edgepose.evaluation.agreement import CLEAR, NEAR, largest_of, relative_error, rounded
from edgepose.evaluation.metrics import shift_summary
from edgepose.evaluation.plan_inputs import (
    KINDS,
    Answer,
    Picture,
    answers_of,
    as_frame,
    counts_of,
    decoded,
    moved,
    peaks_of,
    usable_pictures,
)
from edgepose.model.computes import LEAST_SHARE, Computes
from edgepose.stages.crop import cut_out
from edgepose.stages.frames import Frame
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import Outputs

GREY = 2.0  # levels: OpenCV 4 rounds positions to 1/32 px
NV12_GREY = 0.5  # more: the reference rounds to RGB first
HALF_GREY = 0.1  # more: a crop in FP16
DECODED_PX = 0.01  # heat-map px
CLEAR_SHARE = 0.1  # of the largest value: DARK is ill-posed on peaks that are clear by less
# Of clear peaks, heat-map px: two places that tie side by side change over for a rounding of the crops; steps within a
# pixel add to that. So no peak leaves its own neighbourhood, and few move by more than a pixel.
LARGEST_PX = (NEAR + 0.5) * 2**0.5
FAR_PX, FAR_SHARE = 1.0, 0.1  # so many may move by more than that, and one always
FORMS = tuple(product((False, True), (False, True)))  # flip test, CUDA graph


class Plan(Pipelined, Protocol):
    """What of TensorRtBackend is looked at: the whole data path, and its stages one by one."""

    cuda_graphs: bool

    def crops(self, image: np.ndarray | Frame, regions: Regions) -> np.ndarray:
        """What the crop kernel makes: (N, 3, H, W) float32."""
        ...

    def decode(self, outputs: Mapping[str, np.ndarray], regions: Regions) -> np.ndarray:
        """What the decoding kernel makes of outputs by name: (N, K, 3) float32, image px."""
        ...


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        part: what is wrong where it disagrees: "crop kernel", "network", "decoding kernel", "key points",
            "CUDA graph", "repetition" or "precision".
        name: what was compared.
        agrees: whether it is within `wanted`.
        found, wanted: for people.
        shift: of key points, px of the heat map or other grid: mean, p95, max, share_over_1 and how many; None of other
            rows.
    """

    part: str
    name: str
    agrees: bool
    found: str
    wanted: str
    shift: dict[str, float | int] | None = None


@dataclass(frozen=True)
class PlanCheck:
    """All comparisons of a plan, in order.

    Attributes:
        rows: the comparisons.
        layer: which layer is the first that differs, in words; empty unless the network does.
    """

    rows: tuple[Row, ...]
    layer: str = ""

    @property
    def fault(self) -> str:
        """The part that is wrong: the first of the data path that is; empty if the plan is right."""
        wrong = {row.part for row in self.rows if not row.agrees}
        order = ("crop kernel", "network", "decoding kernel", "key points", "CUDA graph", "repetition", "precision")
        return next((part for part in order if part in wrong), "")

    @property
    def verdict(self) -> str:
        """The verdict in a line."""
        if not self.fault:
            compared = sum(int(row.shift["keypoints"]) for row in self.rows if row.shift)
            told = f"{compared} key points compared" if compared else "no key point was clear: give --images of people"
            return f"agrees with the CPU ({told})"
        row = next(row for row in self.rows if row.part == self.fault and not row.agrees)
        layer = f"; {self.layer}" if self.layer and self.fault == "network" else ""
        return f"WRONG: {self.fault}: {row.name}: {row.found}; wanted {row.wanted}{layer}"


def check_plan(
    cpu: Backend,
    plan: Plan,
    pictures: Sequence[Picture],
    *,
    repeats: int = 200,
    narrow: Callable[[np.ndarray], str] | None = None,
) -> PlanCheck:
    """Compare a plan with the ONNX that it was made from.

    Args:
        cpu: the ONNX, computed exactly.
        plan: the plan; its `cuda_graphs` is changed.
        pictures: at least one, each with at least one usable box.
        repeats: frames that are run twice over for equal results.
        narrow: where the network's outputs differ: tells which layer is the first to, of (1, 3, H, W) float32 crops.

    Raises:
        InputError: no picture has a usable box.
        BackendError: the GPU or a CPU runtime failed.
    """
    pictures = usable_pictures(pictures)
    most = plan.passport.plan.max_batch
    answers = answers_of(cpu, pictures, most)
    first = answers[0]
    who = first.crowd.who
    rows = [*_crop_rows(plan, pictures[0][0], first), *_decode_rows(plan, first)]
    found, nudged = plan.run(first.crops[who]), cpu.run(rounded(first.crops))
    network, errors = network_rows(found, first.outputs, nudged, who, cpu.passport.precision)
    rows += network
    layer = ""
    if narrow is not None and not all(row.agrees for row in network):
        layer = narrow(first.crops[worst_of(errors, who)][None])
    rows += _keypoint_rows(plan, answers)
    plan.cuda_graphs = True
    rgb = [(answer.frame, answer.crowd.regions) for answer in answers[: len(pictures)]]
    rows.append(repetition_row(plan, rgb, repeats))
    rows += precision_rows(plan.passport.plan.computes)
    return PlanCheck(tuple(rows), layer)


def _crop_rows(plan: Plan, image: np.ndarray, answer: Answer) -> Iterator[Row]:
    """The crop kernel against its numpy twin, of each kind of frame."""
    spec, crowd = plan.spec, answer.crowd
    for frame_format, yuv in KINDS:
        frame, seen = as_frame(image, frame_format, yuv)
        difference = np.abs(plan.crops(frame, crowd.regions) - cut_out(seen, crowd.some, spec)[crowd.who])
        levels = float((difference * np.array(spec.image.std, np.float32)[:, None, None]).max())
        limit = GREY + HALF_GREY + NV12_GREY * (frame_format == "nv12")
        found = f"{levels:.2f} grey levels at most"
        name = f"{frame_format.upper()}, {yuv.upper()}" if frame_format == "nv12" else frame_format.upper()
        yield Row("crop kernel", f"crops of {name}", levels <= limit, found, f"{limit:g}")


def network_rows(
    found: Outputs, wanted: Outputs, nudged: Outputs, who: np.ndarray, precision: str, shown: str = "crops"
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """The network against the CPU's, output by output, and by how much each value is off.

    Args:
        found: the plan's, of N people, or pictures.
        wanted: the CPU's, of those that are different.
        nudged: the CPU's for crops that are off by rounding.
        who: (N,) which of these each person is.
        precision: of the plan.
        shown: what the N are.
    """
    rows, errors = [], {}
    for name, values in wanted.items():
        errors[name] = np.abs(found[name] - values[who])
        error = relative_error(found[name], values[who])
        limit = largest_of(precision, relative_error(nudged[name], values))
        text = f"differ by {error:.1e} of their rms, {errors[name].max():.1e} at most"
        label = {"heatmaps": "heat maps", "pafs": "fields"}.get(name, name)
        rows.append(Row("network", f"{label} of {len(who)} {shown}", error <= limit, text, f"{limit:.2g}"))
    return rows, errors


def worst_of(errors: Mapping[str, np.ndarray], who: np.ndarray) -> int:
    """Which of the different people is off the most: of a NaN the one that has it."""
    return int(who[np.argmax(sum(error.reshape(len(who), -1).max(axis=1) for error in errors.values()))])


def _decode_rows(plan: Plan, answer: Answer) -> Iterator[Row]:
    """The decoding kernel against its numpy twin."""
    spec, regions = plan.spec, answer.crowd.regions
    outputs = {  # exact in both types
        name: values[answer.crowd.who].astype(np.float16).astype(np.float32) for name, values in answer.outputs.items()
    }
    share = CLEAR_SHARE if "heatmaps" in outputs else 0.0  # a vector's largest value is exact, and that is all
    margins = {name: share * float(maps.max()) for name, maps in peaks_of(outputs, spec).items()}
    wanted, clear, grid_hw = decoded(outputs, None, spec, margins)
    wanted[..., :2] = regions.to_image(wanted[..., :2], grid_hw)
    px = moved(plan.decode(outputs, regions), wanted, regions, spec)[clear]
    if px.size:
        found = f"{px.max():.4f} {spec.grid_unit} at most, of {px.size} clear peaks"
        label = "heat maps" if "heatmaps" in outputs else "vectors"
        right = bool(px.max() <= DECODED_PX)
        yield Row("decoding kernel", f"the CPU's {label} decoded", right, found, f"{DECODED_PX:g}")


def _keypoint_rows(plan: Plan, answers: Sequence[Answer]) -> Iterator[Row]:
    """The whole data path, for one, an odd number and the most people, in each form, with each frame in its turn."""
    spec = plan.spec
    margins = [_margins(plan, answer) for answer in answers]
    wanted = {
        flip_test: [each.keypoints(spec, flip_test, margin) for each, margin in zip(answers, margins, strict=True)]
        for flip_test in (False, True)
    }
    for count, (flip_test, graph) in product(counts_of(plan.passport.plan.max_batch), FORMS):
        plan.cuda_graphs = graph
        shifts = []
        for _ in range(2 if graph else 1):  # the first run of a count is recorded, not replayed
            for answer, (keypoints, clear) in zip(answers, wanted[flip_test], strict=True):
                some = answer.crowd.regions.rows(slice(count))
                found = plan.keypoints(answer.frame, some, flip_test=flip_test)
                shifts.append(moved(found, keypoints[:count], some, spec)[clear[:count]])
        form = f"{', flip test' * flip_test}{', CUDA graph' * graph}"
        part = "CUDA graph" if graph else "key points"
        yield shift_row(part, f"key points of {count}{form}", np.concatenate(shifts), spec.grid_unit)


def _margins(plan: Plan, answer: Answer) -> dict[str, float]:
    """By how much a peak must be higher than others for its place to be told: of the plan's crops, not of numpy's.

    Its crops may be off by GREY levels, and a network moves its outputs far more for those than for its own rounding.
    """
    regions, who = answer.crowd.regions, answer.crowd.who
    found = plan.run(plan.crops(answer.frame, regions))
    return {name: CLEAR * float(np.abs(found[name] - wanted[who]).max()) for name, wanted in answer.outputs.items()}


def shift_row(part: str, name: str, shift_px: np.ndarray, unit: str) -> Row:
    """Key points' shift: wrong if a clear one moves by over LARGEST_PX or many by FAR_PX, right if none is clear."""
    summary = shift_summary(shift_px)
    wanted = f"clear ones within {LARGEST_PX:.1f} {unit}, {1 - FAR_SHARE:.0%} within {FAR_PX:g}"
    if summary is None:
        return Row(part, name, True, "none is clear of others", wanted)
    figures = "mean {mean:.3f}, p95 {p95:.3f}, max {max:.3f} {unit}; {share_over_1:.1%} over 1 px"
    found = figures.format(unit=unit, **summary)
    few = int((shift_px > FAR_PX).sum()) <= max(1, FAR_SHARE * len(shift_px))
    return Row(part, name, few and bool(shift_px.max() <= LARGEST_PX), found, wanted, summary)  # False for NaN


def repetition_row(plan: Backend, crowds: Sequence[tuple[Frame | np.ndarray, Regions]], repeats: int) -> Row:
    """Frames with people in changing number, twice over: the same bytes come back."""
    most = plan.passport.plan.max_batch

    def result(number: int) -> bytes:
        frame, regions = crowds[number % len(crowds)]
        return plan.keypoints(frame, regions.rows(slice(1 + number % most))).tobytes()

    return same_twice(result, repeats)


def same_twice(result: Callable[[int], bytes], repeats: int) -> Row:
    """What `result` gives of the numbers under `repeats`, twice over."""
    passes = [[result(number) for number in range(repeats)] for _ in range(2)]
    differ = sum(first != second for first, second in zip(*passes, strict=True))
    return Row("repetition", f"{repeats} frames twice over", differ == 0, f"{differ} differ", "none")


def precision_rows(computes: Computes | None) -> Iterator[Row]:
    """Whether TensorRT computes in what the ONNX says, as `edgepose build` read from the plan's layers."""
    if computes is not None and computes.meant:
        wanted = f"{LEAST_SHARE:.0%} of what the ONNX has in {' and '.join(computes.meant)}"
        yield Row("precision", "layers", computes.kept, computes.text(), wanted)
