"""Faults put in on purpose on the GPU itself: does `edgepose verify` find each, and name it?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np

from edgepose.backends import load_backend
from edgepose.benchmarks.gpu.models import FAULTY, find_models, read_frame
from edgepose.benchmarks.gpu.rows import Check, Finding, SkippedError
from edgepose.evaluation.plan_check import Plan, PlanCheck, check_plan
from edgepose.model.passport import read_passport
from edgepose.trt.build import build_engine
from edgepose.trt.layers import computes_of, read_layers
from edgepose.trt.log import logger_of
from edgepose.trt.meant import Meant, MeantLayer, meant_of
from edgepose.trt.options import BuildOptions
from edgepose.trt.versions import load_builder

MAX_BATCH = 2
WHITE = 5.0  # far beyond what any normalised pixel is


def fault_checks(models: Path, work: Path) -> Iterator[Check]:
    """One check of each fault, on the smallest FP32 network; its plan is built first."""
    found = find_models(models, "fp32")
    if not found:
        yield "faults", partial(_skip, f"there is no FP32 ONNX in {models}")
        return
    onnx, plan = found[0], work / "faults.plan"
    yield "the crop kernel, wrong in one corner", partial(check_fault, models, onnx, plan, "crop kernel", wrong_corner)
    yield "CUDA graphs that do nothing", partial(check_fault, models, onnx, plan, "CUDA graph", stale_graphs)
    yield "one layer's scale", partial(check_wrong_layer, models, work / "wrong.plan")
    yield "FP32 where INT8 was meant", partial(check_precision_fault, onnx, plan)


def check_fault(models: Path, onnx: Path, plan: Path, wanted: str, fault: Any) -> Finding:
    """A fault that is there while the plan runs."""
    _built(onnx, plan)
    with fault():
        return _finding(_compared(models, onnx, plan), wanted)


def check_wrong_layer(models: Path, plan: Path) -> Finding:
    """A plan in which one convolution's weights are 1.25 times what they should be: the network, and that layer."""
    from edgepose.evaluation.first_layer import first_layer

    wrong = next((models / FAULTY).glob("*.onnx"), None)
    if wrong is None:
        raise SkippedError(f"there is no ONNX in {models / FAULTY}: --prepare makes it")
    onnx = models / wrong.name
    _built(wrong, plan)
    passport = read_passport(plan)
    check = _compared(models, onnx, plan, lambda crops: first_layer(onnx, passport, crops, built=wrong))
    layer = (models / FAULTY / "layer.txt").read_text(encoding="utf-8").strip()
    finding = _finding(check, "network")
    return Finding(
        finding.ok and f"differs is {layer}:" in check.layer, finding.found, f"{finding.wanted} and its layer {layer}"
    )


def check_precision_fault(onnx: Path, plan: Path) -> Finding:
    """The FP32 plan, as if all layers of its ONNX were INT8."""
    from edgepose.cuda.memory import open_device  # pycuda

    _built(onnx, plan)
    passport = read_passport(plan)
    with open_device().active():
        layers = read_layers(plan, passport)
    computes = computes_of(layers, _int8_everywhere(onnx, passport.plan.runtime))
    if not computes.shares:
        raise SkippedError("TensorRT told no layers")
    return Finding(not computes.kept, f"{computes.text()}", "layers wider than the ONNX says")


def wrong_corner() -> AbstractContextManager[Any]:
    """The last pixel of the first crop is white, after the kernel has run."""
    from edgepose.trt.launches import Stages

    crop = Stages.crop

    def spoiled(self: Stages, count: int, flip_test: bool) -> None:
        crop(self, count, flip_test)
        tensor = self.network.inputs["crops"]
        white = np.array([WHITE], tensor.dtype)
        self.stream.upload(self._memory["crops"].address + tensor.row_bytes - white.nbytes, white)
        self.stream.wait()

    return patch.object(Stages, "crop", spoiled)


def stale_graphs() -> AbstractContextManager[Any]:
    """Graphs are launched and leave all as it was."""
    from edgepose.cuda.graphs import Graph

    return patch.object(Graph, "launch", lambda self, stream: None)


def _compared(models: Path, onnx: Path, plan: Path, narrow: Any = None) -> PlanCheck:
    with closing(load_backend(plan)) as opened, closing(load_backend(onnx, exact=True)) as cpu:
        return check_plan(cpu, cast(Plan, opened), [read_frame(models)], repeats=2, narrow=narrow)


def _finding(check: PlanCheck, wanted: str) -> Finding:
    return Finding(check.fault == wanted, check.verdict, f"WRONG: {wanted}")


def _built(onnx: Path, plan: Path) -> None:
    if not plan.is_file():
        build_engine(onnx, plan, BuildOptions(max_batch=MAX_BATCH))


def _int8_everywhere(onnx: Path, runtime: str) -> Meant:
    """What a network of the same layers would be meant for if all of it were INT8."""
    trt = load_builder(runtime)
    builder = trt.Builder(logger_of(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger_of(trt))
    parser.parse(onnx.read_bytes())
    return Meant(tuple(MeantLayer(each.name, "INT8", each.multiply_adds) for each in meant_of(trt, network).layers))


def _skip(reason: str) -> Finding:
    raise SkippedError(reason)
