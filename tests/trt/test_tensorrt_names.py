"""Every TensorRT name that edgepose uses exists in the oldest and the newest supported TensorRT.

The bindings load without TensorRT: shared objects with the few entry points they link to stand in for it.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import edgepose

RELEASES = {"tensorrt-cu12-bindings==10.3.0": "10", "tensorrt-cu13-bindings==11.4.0.106": "11"}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
RUNTIME = "trt/network.py"
SOURCES = [
    Path(edgepose.__file__).parent / name
    for name in (
        "trt/build.py",
        "trt/debug.py",
        "trt/interleaving.py",
        "trt/layers.py",
        "trt/log.py",
        "trt/meant.py",
        "trt/plan.py",
        "trt/serialise.py",
        "trt/values.py",
        "trt/versions.py",
        RUNTIME,
    )
]
# how they call TensorRT's objects -> the TensorRT class they are of
VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "node": "ILayer",
    "reader": "ILayer",
    "convolution": "IConvolutionLayer",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
}
RTX_ONLY = {
    "ComputeCapability",
    "DynamicShapesKernelSpecializationStrategy",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ICudaEngine.create_runtime_config",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "IRuntimeConfig.set_execution_context_allocation_strategy",
}

LIST_NAMES = """
import json, tensorrt_bindings as trt
json.dump({name: dir(getattr(trt, name)) for name in dir(trt)}, __import__("sys").stdout)
"""


def names_used(source: str) -> set[str]:
    """`trt.A`, `trt.A.B` and `builder.c` in a source, as A, A.B and Builder.c; `self._trt` is `trt`."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = variable(node.value)
        if owner == "trt":
            used.add(node.attr)
        elif owner in VARIABLES:
            used.add(f"{VARIABLES[owner]}.{node.attr}")
        elif isinstance(node.value, ast.Attribute) and variable(node.value.value) == "trt":
            used.add(f"{node.value.attr}.{node.attr}")
    return {name for name in used if not name.startswith("__")}


def variable(node: ast.expr) -> str:
    """The name of a variable, also of one that is an object's own."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr.lstrip("_")
    return ""


@pytest.fixture(scope="module", params=RELEASES, ids=RELEASES.values())
def known_names(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a release's bindings define: class or enum -> its attributes."""
    if platform.machine() != "x86_64" or sys.version_info >= (3, 13):
        pytest.skip("no 10.3 bindings for this machine and Python")
    folder = tmp_path_factory.mktemp("bindings")
    major = RELEASES[request.param]
    stub = folder / "stub.c"
    stub.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
    for library in LIBRARIES:
        soname = f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname, stub], check=True, timeout=60
        )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, request.param]
    subprocess.run(pip, check=True, timeout=300)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)}
    listed = subprocess.run(
        [sys.executable, "-c", LIST_NAMES], check=True, capture_output=True, env=environment, timeout=60
    )
    names: dict[str, list[str]] = json.loads(listed.stdout)
    return names


def test_every_name_edgepose_uses_exists(known_names: dict[str, list[str]]) -> None:
    used = set().union(*(names_used(source.read_text()) for source in SOURCES))

    assert len(used) > 25  # the walk did find them
    assert missing_in(known_names, used - RTX_ONLY) == []


def test_every_name_the_runtime_uses_exists_in_tensorrt_for_rtx() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    used = names_used((Path(edgepose.__file__).parent / RUNTIME).read_text())

    assert {
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.nvtx_verbosity",
        "ICudaEngine.device_memory_size_v2",
        "DataType.HALF",
    } <= used
    assert missing_in({name: dir(getattr(rtx, name)) for name in dir(rtx)}, used) == []


def missing_in(known_names: dict[str, list[str]], used: set[str]) -> list[str]:
    missing = []
    for name in sorted(used):
        owner, _, attribute = name.partition(".")
        if owner not in known_names or (attribute and attribute not in known_names[owner]):
            missing.append(name)
    return missing


def test_names_of_one_release_only_would_be_found(known_names: dict[str, list[str]]) -> None:
    assert ("FP16" in known_names["BuilderFlag"]) != ("STRICT_NANS" in known_names["BuilderFlag"])


def test_the_walk_sees_enums_and_methods() -> None:
    assert names_used("self._trt.BuilderFlag.FP16; builder.create_network(1)") == {
        "BuilderFlag",
        "BuilderFlag.FP16",
        "Builder.create_network",
    }
