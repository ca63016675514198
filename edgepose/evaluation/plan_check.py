"""Is a plan right on this device? Its key points against the exact CPU's, and where they differ, which part is wrong.

The network's share of an error is told from that of the crop and decoding kernels by comparing each with its numpy
twin on the same input; what is right launch by launch and wrong replayed is the CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

import cv2
import numpy as np

from edgepose.backends import Backend, Pipelined
from edgepose.errors import InputError
from edgepose.evaluation.agreement import CLEAR, clear_peaks, largest_relative, relative_error
from edgepose.evaluation.metrics import shift_summary
from edgepose.model.computes import LEAST_SHARE, Computes
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.frames import YUVS, Frame
from edgepose.stages.geometry import Regions

GREY = 2.0  # levels: OpenCV 4 rounds positions to 1/32 px
NV12_GREY = 0.5  # more: the reference rounds to RGB first
HALF_GREY = 0.1  # more: a crop in FP16
DECODED_PX = 0.01  # heat-map px
CLEAR_SHARE = 0.1  # of the largest value: DARK is ill-posed on peaks that are clear by less
LARGEST_PX = 1.0  # heat-map px, of clear peaks
FORMS = tuple(product((False, True), (False, True)))  # flip test, CUDA graph
KINDS = (("rgb", YUVS[0]), ("bgr", YUVS[0]), *(("nv12", yuv) for yuv in YUVS))  # of frames, each in its turn
Picture = tuple[np.ndarray, np.ndarray]  # (H, W, 3) uint8 RGB, (N, 4) boxes


class Plan(Pipelined, Protocol):
    """What of TensorRtBackend is looked at: the whole data path, and its stages one by one."""

    cuda_graphs: bool

    def crops(self, image: np.ndarray | Frame, regions: Regions) -> np.ndarray:
        """What the crop kernel makes: (N, 3, H, W) float32."""
        ...

    def decode(self, heatmaps: np.ndarray, regions: Regions) -> np.ndarray:
        """What the decoding kernel makes: (N, K, 3) float32, image px."""
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
        shift: of key points, heat-map px: mean, p95, max, share_over_1 and how many; None of other rows.
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
        narrow: where heat maps differ: tells which layer is the first to, of (1, 3, H, W) float32 crops.

    Raises:
        InputError: no picture has a usable box.
        BackendError: the GPU or a CPU runtime failed.
    """
    spec, most = plan.spec, plan.passport.plan.max_batch
    pictures = [(image, boxes) for image, boxes in pictures if len(boxes)]
    if not pictures:
        raise InputError("no picture shows a usable box of a person: give others with --images")
    if len(pictures) == 1:  # or a graph that does nothing would leave what is right
        pictures = [*pictures, _mirrored(*pictures[0])]
    crowds = [(image, crowd(boxes, most, spec)) for image, boxes in pictures]
    rows = [*_stage_rows(cpu, plan, *crowds[0])]
    crops = cut_out(*crowds[0], spec)
    wanted = cpu.heatmaps(crops)
    found = plan.heatmaps(crops)
    error, limit = relative_error(found, wanted), largest_relative(cpu, crops, wanted)
    text = f"differ by {error:.1e} of their rms, {np.abs(found - wanted).max():.1e} at most"
    rows.append(Row("network", f"heat maps of {most} crops", error <= limit, text, f"{limit:.2g}"))
    layer = ""
    if not error <= limit and narrow is not None:
        worst = int(np.argmax(np.abs(found - wanted).max(axis=(1, 2, 3))))  # that of a NaN, if there is one
        layer = narrow(crops[worst : worst + 1])
    margin = CLEAR * float(np.abs(found - wanted).max())
    turns = max(len(crowds), len(KINDS))
    rows += _keypoint_rows(cpu, plan, [crowds[turn % len(crowds)] for turn in range(turns)], margin)
    rows.append(_repetition(plan, crowds, repeats))
    rows += _precision(plan.passport.plan.computes)
    return PlanCheck(tuple(rows), layer)


def crowd(boxes_xyxy: np.ndarray, count: int, spec: ModelSpec) -> Regions:
    """Regions of `count` people: the boxes in turn, each time a little farther to the right."""
    turns = np.arange(count) // len(boxes_xyxy)
    boxes = np.asarray(boxes_xyxy, np.float64)[np.arange(count) % len(boxes_xyxy)]
    boxes[:, ::2] += 2.5 * turns[:, None]
    return Regions.around(boxes, spec)


def _mirrored(image: np.ndarray, boxes_xyxy: np.ndarray) -> Picture:
    """A picture as in a mirror."""
    boxes = np.array(boxes_xyxy)
    boxes[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(image[:, ::-1]), boxes


def as_frame(image: np.ndarray, frame_format: str, yuv: str = YUVS[0]) -> tuple[Frame, np.ndarray]:
    """An RGB image as a frame of that format, and the RGB that it stands for. NV12 drops an odd row or column.

    Args:
        yuv: what NV12's levels are read as. They are BT.601's whatever it says, so that other colours come of them.
    """
    if frame_format == "rgb":
        return Frame(image), image
    if frame_format == "bgr":
        return Frame(np.ascontiguousarray(image[..., ::-1]), "bgr"), image
    height, width = (side - side % 2 for side in image.shape[:2])
    planes = cv2.cvtColor(np.ascontiguousarray(image[:height, :width]), cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, chroma = planes[: height * width], planes[height * width :].reshape(2, -1)
    pixels = np.concatenate([luma, chroma.T.reshape(-1)]).reshape(-1, width)  # u and v in turns
    frame = Frame(pixels, "nv12", yuv=yuv)
    return frame, frame.to_rgb()


def _stage_rows(cpu: Backend, plan: Plan, image: np.ndarray, regions: Regions) -> Iterator[Row]:
    """Both kernels against their numpy twins, each on its own input."""
    spec = plan.spec
    for frame_format, yuv in KINDS:
        frame, seen = as_frame(image, frame_format, yuv)
        difference = np.abs(plan.crops(frame, regions) - cut_out(seen, regions, spec))
        levels = float((difference * np.array(spec.image.std, np.float32)[:, None, None]).max())
        limit = GREY + HALF_GREY + NV12_GREY * (frame_format == "nv12")
        found = f"{levels:.2f} grey levels at most"
        name = f"{frame_format.upper()}, {yuv.upper()}" if frame_format == "nv12" else frame_format.upper()
        yield Row("crop kernel", f"crops of {name}", levels <= limit, found, f"{limit:g}")
    heatmaps = cpu.heatmaps(cut_out(image, regions, spec)).astype(np.float16).astype(np.float32)  # exact in both types
    wanted = decode_heatmaps(heatmaps, spec)
    wanted[..., :2] = regions.to_image(wanted[..., :2], spec.heatmaps.size_hw)
    step = spec.num_maps // spec.num_keypoints  # 3 where offsets follow each score
    clear = clear_peaks(heatmaps[:, ::step], CLEAR_SHARE * float(heatmaps[:, ::step].max()))
    px = moved(plan.decode(heatmaps, regions), wanted, regions, spec)[clear]
    if px.size:
        found = f"{px.max():.4f} heat-map px at most, of {px.size} clear peaks"
        right = bool(px.max() <= DECODED_PX)
        yield Row("decoding kernel", "the CPU's heat maps decoded", right, found, f"{DECODED_PX:g}")


def _keypoint_rows(
    cpu: Backend, plan: Plan, crowds: Sequence[tuple[np.ndarray, Regions]], margin: float
) -> Iterator[Row]:
    """The whole data path, for one, an odd number and the most people, in each form, with each format in turn."""
    spec, most = plan.spec, plan.passport.plan.max_batch
    step = spec.num_maps // spec.num_keypoints
    frames, wanted, clear = [], {}, {}
    for number, (image, regions) in enumerate(crowds):
        frame, seen = as_frame(image, *KINDS[number % len(KINDS)])
        frames.append(frame)
        crops = cut_out(seen, regions, spec)
        straight = cpu.heatmaps(crops)
        for flip_test in (False, True):
            maps = merge_flipped(straight, cpu.heatmaps(mirror(crops)), spec) if flip_test else straight
            keypoints = decode_heatmaps(maps, spec)
            keypoints[..., :2] = regions.to_image(keypoints[..., :2], spec.heatmaps.size_hw)
            wanted[number, flip_test] = keypoints
            clear[number, flip_test] = clear_peaks(maps[:, ::step], margin)
    for count, (flip_test, graph) in product(sorted({1, most - 1 + most % 2, most}), FORMS):
        plan.cuda_graphs = graph
        shifts = []
        for _ in range(2 if graph else 1):  # the first run of a count is recorded, not replayed
            for number, (_, regions) in enumerate(crowds):
                some = first(regions, count)
                found = plan.keypoints(frames[number], some, flip_test=flip_test)
                px = moved(found, wanted[number, flip_test][:count], some, spec)
                shifts.append(px[clear[number, flip_test][:count]])
        form = f"{', flip test' * flip_test}{', CUDA graph' * graph}"
        yield _shift_row(
            "CUDA graph" if graph else "key points", f"key points of {count}{form}", np.concatenate(shifts)
        )


def _shift_row(part: str, name: str, shift_px: np.ndarray) -> Row:
    summary = shift_summary(shift_px)
    wanted = f"clear ones within {LARGEST_PX:g} heat-map px"
    if summary is None:
        return Row(part, name, True, "none is clear of others", wanted)
    found = "mean {mean:.3f}, p95 {p95:.3f}, max {max:.3f} heat-map px; {share_over_1:.1%} over 1 px".format(**summary)
    return Row(part, name, bool(shift_px.max() <= LARGEST_PX), found, wanted, summary)  # False for NaN


def _repetition(plan: Plan, crowds: Sequence[tuple[np.ndarray, Regions]], repeats: int) -> Row:
    """Frames with people in changing number, twice over: the same bytes come back."""
    plan.cuda_graphs = True
    most, passes = plan.passport.plan.max_batch, []
    for _ in range(2):
        results = []
        for number in range(repeats):
            image, regions = crowds[number % len(crowds)]
            results.append(plan.keypoints(image, first(regions, 1 + number % most)).tobytes())
        passes.append(results)
    differ = sum(first != second for first, second in zip(*passes, strict=True))
    return Row("repetition", f"{repeats} frames twice over", differ == 0, f"{differ} differ", "none")


def _precision(computes: Computes | None) -> Iterator[Row]:
    """Whether TensorRT computes in what the ONNX says, as `edgepose build` read from the plan's layers."""
    if computes is not None and computes.meant:
        wanted = f"{LEAST_SHARE:.0%} of what the ONNX has in {' and '.join(computes.meant)}"
        yield Row("precision", "layers", computes.kept, computes.text(), wanted)


def first(regions: Regions, count: int) -> Regions:
    """The first `count` of some regions."""
    return replace(regions, center_xy=regions.center_xy[:count], size_wh=regions.size_wh[:count])


def moved(found: np.ndarray, wanted: np.ndarray, regions: Regions, spec: ModelSpec) -> np.ndarray:
    """(N, K) heat-map px between key points (N, K, 3) in image px."""
    steps = regions.px_per_step(spec.heatmaps.size_hw)[:, None]
    return np.asarray(np.linalg.norm((found[..., :2] - wanted[..., :2]) / steps, axis=-1))
