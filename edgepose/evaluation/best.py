"""`edgepose build --best`: plans of one network in several precisions, timed in turn on this device; the fastest stays.

INT8 is not always the faster plan: TensorRT decides what it fuses (docs/decisions/int8.md). So it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.errors import ModelFileError
from edgepose.evaluation.metrics import shift_summary
from edgepose.evaluation.plan_inputs import PEOPLE, Picture, crowd_of, moved, usable_pictures
from edgepose.model.passport import read_passport
from edgepose.stages.one_person import check_person_head

SECONDS = 5.0  # of measuring, for all candidates and both counts of people together
FEWEST_ROUNDS = 10
CONFIDENT = 0.3  # FP32's score: as `calibrate` measures shift


@dataclass(frozen=True)
class Candidate:
    """One plan as it was measured.

    Attributes:
        onnx: what it was built from.
        plan: the plan.
        precision: of the ONNX.
        ms_one, ms_most: median time of a frame with one person and with the plan's most, from image to key points.
        shift: of confident key points from FP32's, px of the heat map or, without one, of the input, as
            `shift_summary`; None where none is confident.
    """

    onnx: Path
    plan: Path
    precision: str
    ms_one: float
    ms_most: float
    shift: dict[str, float | int] | None

    def within(self, budget_px: float) -> bool:
        """Whether key points move by no more than that on average.

        False where no key point is confident, and of NaN; an infinite budget takes all.
        """
        if budget_px == math.inf:
            return True
        return self.shift is not None and bool(self.shift["mean"] <= budget_px)


def candidates_of(onnx: Path, also: Sequence[Path] = ()) -> tuple[Path, list[Path]]:
    """The FP32 file of a network, and its FP16 and INT8 files: m.onnx of m.onnx, m.fp16.onnx or m.int8.onnx.

    Args:
        onnx: any of the three.
        also: more files of the same network, of `calibrate --budget` say.

    Raises:
        ModelFileError: one is missing or damaged, or `also` is of another network; or it takes no crops of people.
    """
    stem = onnx.name.removesuffix(".onnx").removesuffix(".fp16").removesuffix(".int8")
    reference = onnx.with_name(f"{stem}.onnx")
    spec = read_passport(reference).spec
    check_person_head(spec)
    files = [path for kind in ("fp16", "int8") if (path := onnx.with_name(f"{stem}.{kind}.onnx")).is_file()]
    if not files and not also:
        raise ModelFileError(
            f"beside {reference} lie neither {stem}.fp16.onnx nor {stem}.int8.onnx: copy them here (export, calibrate)"
        )
    for path in also:
        if read_passport(path).spec.name != spec.name:
            raise ModelFileError(f"{path} is of {read_passport(path).spec.name}, and {reference} of {spec.name}")
    return reference, [*files, *(path for path in also if path not in files)]


def measure_candidates(
    reference: Path, built: Sequence[tuple[Path, Path]], pictures: Sequence[Picture], *, seconds: float = SECONDS
) -> list[Candidate]:
    """Time plans in turn, and compare their key points with FP32's on the CPU.

    Args:
        reference: the FP32 ONNX.
        built: (ONNX, plan), all for the same number of people.
        pictures: of people, with their boxes.
        seconds: of measuring in all, at least FEWEST_ROUNDS rounds.

    Raises:
        InputError: no picture has a usable box.
        EngineMismatchError, BackendError: a plan or the ONNX cannot be run here.
    """
    pictures = usable_pictures(pictures)
    with ExitStack() as stack:
        plans = [stack.enter_context(load_backend(plan)) for _, plan in built]
        cpu = stack.enter_context(load_backend(reference, exact=True))
        shifts = _shifts(cpu, plans, pictures)
        times = _times(plans, pictures, seconds)
        return [
            Candidate(onnx, path, plan.passport.precision, *ms, shift)
            for (onnx, path), plan, ms, shift in zip(built, plans, times, shifts, strict=True)
        ]


def fastest(candidates: Sequence[Candidate], budget_px: float) -> Candidate | None:
    """The candidate that is fastest with most people of those within a budget; None if none is within it."""
    within = [each for each in candidates if each.within(budget_px)]
    return min(within, key=lambda each: each.ms_most, default=None)


def rows_of(candidates: Sequence[Candidate], most: int, budget_px: float) -> list[list[str]]:
    """A table's cells, the first row its head."""
    head = ["", "1 person", f"{most} people", "shift mean", "p95", "over 1 px", ""]
    rows = [head[:2] + head[3:] if most == 1 else head]
    for each in candidates:
        shift = ["-"] * 3
        if each.shift is not None:
            shift = [f"{each.shift['mean']:.3f} px", f"{each.shift['p95']:.2f} px", f"{each.shift['share_over_1']:.1%}"]
        times = [f"{each.ms_one:.2f} ms", f"{each.ms_most:.2f} ms"][: 1 if most == 1 else 2]
        rows.append([each.onnx.name, *times, *shift, "" if each.within(budget_px) else "not within the budget"])
    return rows


def _shifts(cpu: Backend, plans: Sequence[Backend], pictures: Sequence[Picture]) -> list[dict[str, float | int] | None]:
    spec, found = cpu.spec, [list[np.ndarray]() for _ in plans]
    for image, boxes in pictures:
        crowd = crowd_of(boxes, plans[0].passport.plan.max_batch, PEOPLE // len(pictures), spec)
        wanted = cpu.keypoints(image, crowd.some)[crowd.who]
        for plan, px in zip(plans, found, strict=True):
            px.append(
                moved(plan.keypoints(image, crowd.regions), wanted, crowd.regions, spec)[wanted[..., 2] > CONFIDENT]
            )
    return [shift_summary(np.concatenate(px)) for px in found]


def _times(plans: Sequence[Backend], pictures: Sequence[Picture], seconds: float) -> list[tuple[float, float]]:
    """Medians, ms, for one person and for the most: rounds in which each plan runs once, so that drift hits all."""
    image, boxes = pictures[0]
    most = plans[0].passport.plan.max_batch
    regions = crowd_of(boxes, most, most, plans[0].spec).regions
    medians = []
    for some in (regions.rows(slice(1)), regions):
        for plan in plans:
            for _ in range(3):  # contexts and graphs are made at the first sight of a count
                plan.keypoints(image, some)
        rounds, end = list[list[float]](), perf_counter() + seconds / 2
        while len(rounds) < FEWEST_ROUNDS or perf_counter() < end:
            times = []
            for plan in plans:
                start = perf_counter()
                plan.keypoints(image, some)
                times.append(1e3 * (perf_counter() - start))
            rounds.append(times)
        medians.append(np.median(rounds, axis=0))
    return [(float(one), float(most)) for one, most in zip(*medians, strict=True)]
