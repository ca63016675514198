"""Workstation half: calibration sets to INT8 ONNX (onnx, onnxruntime, and OpenVINO to check the result)."""

from __future__ import annotations

from importlib.util import find_spec

from edgepose.errors import MissingPackageError


def require_workstation() -> None:
    """Raise MissingPackageError unless the packages that a calibration needs are installed."""
    for package in ("onnx", "onnxruntime", "openvino"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "workstation")
