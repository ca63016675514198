"""ONNX Runtime on the CPU: the FP32 reference, and the fallback where OpenVINO is missing.

It refuses FP16 and INT8 files. Its CPU provider was measured to compute Q/DQ graphs whose remainder is FP16 wrongly
(relative error 0.6 where OpenVINO has 0.01), and FP16 graphs many times slower than FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.runtime import Arrays, HostRuntime, reason
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.machine.packages import is_absent, load_failure
from edgepose.model.heads import Shape
from edgepose.model.passport import Passport
from edgepose.model.shapes import match_tensors

try:
    import onnxruntime
except (ImportError, OSError) as error:
    if is_absent(error, "onnxruntime"):
        raise MissingPackageError("ONNX Runtime", "cpu") from error
    raise BackendError(
        f"{load_failure(error, 'onnxruntime')}: pip install --force-reinstall onnxruntime, or use --backend openvino"
    ) from error


class OnnxRuntimeRuntime(HostRuntime):
    """Runs an FP32 ONNX file with ONNX Runtime's CPU provider.

    Raises:
        BackendError: the file is not FP32.
        ModelFileError: ONNX Runtime cannot read the file, or it has other tensors than its passport.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, passport: Passport, threads: int | None = None) -> None:
        if passport.precision != "fp32":
            raise BackendError(
                f"{path} is {passport.precision.upper()}, which ONNX Runtime computes wrongly or slowly on a CPU: "
                f"use OpenVINO (pip install 'edgepose[cpu]', --backend openvino), or the FP32 file"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: the user gets them as one line
        options.intra_op_num_threads = threads or 0
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            inputs, outputs = _shapes(self._session.get_inputs()), _shapes(self._session.get_outputs())
        except Exception as error:  # its exceptions have no common base but this one; names may be no UTF-8
            raise ModelFileError(f"{path}: ONNX Runtime cannot read it ({reason(error)}): export it again") from error
        if not inputs or not outputs:
            raise ModelFileError(f"{path} has no input or no output: export it again")
        self._names, fixed_batch = match_tensors(path, passport.spec, inputs, outputs)
        super().__init__(path, passport, fixed_batch)

    def _run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        if self._session is None:
            raise ValueError("the backend is closed")
        spec = self.passport.spec
        fed = {self._names[name]: arrays[name] for name in spec.inputs}
        results = self._session.run([self._names[name] for name in spec.outputs], fed)
        return {name: np.asarray(result) for name, result in zip(spec.outputs, results, strict=True)}

    def _free(self) -> None:
        self._session = None


def _shapes(ports: Any) -> dict[str, Shape]:
    return {port.name: tuple(size if isinstance(size, int) else None for size in port.shape) for port in ports}
