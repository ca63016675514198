"""What `edgepose verify` finds of the plans of the acceptance run, and what precision they compute in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from edgepose.benchmarks.gpu.engine_checks import plan_path
from edgepose.benchmarks.gpu.models import find_models, read_frame
from edgepose.benchmarks.gpu.rows import Check, Finding, SkippedError
from edgepose.evaluation.verify import verify_plan
from edgepose.model.computes import LEAST_SHARE
from edgepose.model.passport import PRECISIONS, read_passport


def verify_checks(models: Path, work: Path) -> Iterator[Check]:
    """Two checks of each plan that the groups before have built: INT8 is compared with exact INT8 on the CPU."""
    for precision in PRECISIONS:
        for onnx in find_models(models, precision):
            plan = plan_path(work, onnx)
            yield f"verify {plan.name}", partial(check_verdict, onnx, plan, models)
            yield f"precision of {plan.name}", partial(check_precision, plan)


def check_verdict(onnx: Path, plan: Path, models: Path, repeats: int = 50) -> Finding:
    """Each stage against its numpy twin, the network and the whole path against the CPU, frames twice over."""
    _require(plan)
    check, _ = verify_plan(plan, [read_frame(models)], onnx=onnx, repeats=repeats)
    return Finding(not check.fault, f"{check.verdict}; {len(check.rows)} comparisons", "agrees with the CPU")


def check_precision(plan: Path) -> Finding:
    """Whether TensorRT computes in what the ONNX says."""
    _require(plan)
    computes = read_passport(plan).plan.computes
    if computes is None:
        raise SkippedError("TensorRT told no layers when it was built")
    return Finding(computes.kept, computes.text(), f"{LEAST_SHARE:.0%} in what the ONNX says")


def _require(plan: Path) -> None:
    if not plan.is_file():
        raise SkippedError(f"{plan.name} was not built in a group before")
