"""Workstation half: PyTorch checkpoints to verified ONNX (torch, onnx, onnxsim)."""

from __future__ import annotations

from importlib.util import find_spec

from edgepose.errors import MissingPackageError


def require_workstation() -> None:
    """Raise MissingPackageError unless the packages that an export needs are installed."""
    for package in ("torch", "onnx", "onnxsim", "onnxruntime", "openvino"):
        if find_spec(package) is None:
            raise MissingPackageError(package, "workstation")
