"""The `tensorrt` that computes with PyTorch says what ONNX Runtime says: it is in TensorRT's place on some GPUs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgepose.benchmarks.gpu.models import prepare
from edgepose.benchmarks.peers.int8_networks import NETWORKS
from edgepose.evaluation.agreement import relative_error
from tests.shared_data import SHARED, needs_shared

MODULE = Path(__file__).parent / "fake_device/pytorch/tensorrt.py"


@pytest.fixture(scope="module")
def trt():
    spec = importlib.util.spec_from_file_location("tensorrt_on_pytorch", MODULE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """simplebaseline_tiny in each precision."""
    folder = tmp_path_factory.mktemp("networks")
    prepare(folder, ["simplebaseline_tiny"], lambda step: None)
    return folder


@pytest.mark.parametrize(("suffix", "tolerance"), [(".onnx", 1e-5), (".fp16.onnx", 4e-3), (".int8.onnx", 0.1)])
def test_a_network_computes_as_onnx_runtime_does(suffix, tolerance, trt, networks):
    path = networks / f"simplebaseline_tiny{suffix}"
    program = trt.Program(path.read_bytes())
    (name,) = program.inputs
    crops = np.random.default_rng(0).normal(size=(2, *program.ports[name][0][1:])).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    (found,) = program.run({name: torch.from_numpy(crops)}).values()

    (wanted,) = session.run(None, {name: crops})
    assert relative_error(found.float().numpy(), wanted) < tolerance


@needs_shared
@pytest.mark.parametrize("name", ["cpm_mobilenetv2", "efficientpose_rt", "pptinypose"])
def test_networks_from_elsewhere_compute_too(name, trt, tmp_path):
    path = NETWORKS[name].make(SHARED, tmp_path)
    program = trt.Program(path.read_bytes())
    (port,) = program.inputs
    crops = np.random.default_rng(0).normal(size=(1, *program.ports[port][0][1:])).astype(np.float32)

    (found,) = program.run({port: torch.from_numpy(crops)}).values()

    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {port: crops})
    assert relative_error(found.float().numpy(), wanted) < 1e-4  # sums of float32 in another order
