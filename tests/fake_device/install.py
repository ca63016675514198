"""Puts the stand-ins in place of pycuda and TensorRT for one test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgepose.cuda.nvcc import kernels_path
from edgepose.files import sha256_of
from edgepose.model.engine_info import engine_from_json
from edgepose.model.passport import Passport, write_passport
from edgepose.model.spec import ModelSpec
from tests.fake_device.bindings import make_bindings
from tests.fake_device.gpu import FATBIN, FakeGpu
from tests.fake_device.trt import make_plan, make_tensorrt
from tests.makers import dots_spec, write_toy_model

DOORS = (  # what holds pycuda, or TensorRT, or the GPU that was found
    "edgepose.cuda.bindings",
    "edgepose.cuda.memory",
    "edgepose.cuda.arrays",
    "edgepose.cuda.external",
    "edgepose.cuda.frame_memory",
    "edgepose.trt.network",
    "edgepose.trt.pipeline",
    "edgepose.trt.slot",
    "edgepose.trt.launches",
    "edgepose.trt.readers",
    "edgepose.trt.backend",
    "edgepose.trt.runtime",
    "edgepose.trt.values",
    "edgepose.evaluation.first_layer",
    "edgepose.trt.decoding",
    "edgepose.cuda.maps",
    "edgepose.trt.grouping",
)


@contextmanager
def fake_device(*, door: str = "pycuda", **changes: Any) -> Iterator[FakeGpu]:
    """A GPU with its pycuda (or cuda-bindings), libcuda and TensorRT 10.3; afterwards there is none again."""
    gpu = FakeGpu(**changes)
    package = ModuleType("pycuda")
    package.driver = gpu.driver  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name in DOORS:
            patch.delitem(sys.modules, name, raising=False)
        if door == "pycuda":
            patch.setitem(sys.modules, "pycuda", package)
            patch.setitem(sys.modules, "pycuda.driver", gpu.driver)
        else:
            patch.setitem(sys.modules, "pycuda", None)
        names = ("cuda", "cuda.bindings", "cuda.bindings.driver")
        cuda, bindings, driver = ModuleType(names[0]), ModuleType(names[1]), make_bindings(gpu)
        cuda.bindings, bindings.driver = bindings, driver  # type: ignore[attr-defined]
        for name, module in zip(names, (cuda, bindings, driver), strict=True):
            patch.setitem(sys.modules, name, module if door != "pycuda" else None)
        patch.setitem(sys.modules, "tensorrt", make_tensorrt(gpu))
        patch.setattr("edgepose.machine.gpu.find_gpu", lambda: gpu.gpu)
        patch.setattr("edgepose.cuda.graphs.load_driver", lambda: gpu.libcuda)
        try:
            yield gpu
        finally:
            for name in DOORS:
                sys.modules.pop(name, None)
            gpu.graveyard.clear()


def write_toy_plan(
    path: Path,
    spec: ModelSpec | None = None,
    *,
    max_batch: int = 8,
    batch: int | str = "N",
    engine: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A plan of `write_toy_model`, with its passport and kernels. engine: changed entries of the passport's."""
    spec = spec or dots_spec()
    onnx = write_toy_model(path.with_suffix(".onnx"), spec, batch=batch)
    return write_plan_of(onnx, path, spec, max_batch=max_batch, engine=engine, **settings)


def write_plan_of(
    onnx: Path,
    path: Path,
    spec: ModelSpec,
    *,
    max_batch: int = 8,
    engine: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A plan of any ONNX, with its passport and kernels; see `write_toy_plan`."""
    path.write_bytes(make_plan(onnx, max_batch=max_batch, **settings))
    kernels_path(path).write_bytes(FATBIN)
    entry: dict[str, Any] = {
        "runtime": "tensorrt",
        "tensorrt": "10.3.0",
        "gpu": "Fake Orin",
        "targets": ["sm_87"],
        "max_batch": max_batch,
        "version_compatible": False,
        "dla": None,
        "kernels": {"file": kernels_path(path).name, "sha256": sha256(FATBIN).hexdigest()},
    }
    made_from = {onnx.name: sha256_of(onnx)}
    passport = Passport(
        spec, "fp32", sha256_of(path), "toy", made_from=made_from, engine=engine_from_json({**entry, **(engine or {})})
    )
    write_passport(path, passport)
    return path
