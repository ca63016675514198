"""ONNX Runtime on the CPU: the FP32 reference, and the fallback where OpenVINO is missing.

It refuses FP16 and INT8 files. Its CPU provider was measured to compute Q/DQ graphs whose remainder is FP16 wrongly
(relative error 0.6 where OpenVINO has 0.01), and FP16 graphs many times slower than FP32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.host import HostBackend, check_shapes, reason
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.machine.packages import is_absent, load_failure
from edgepose.model.passport import Passport

try:
    import onnxruntime
except (ImportError, OSError) as error:
    if is_absent(error, "onnxruntime"):
        raise MissingPackageError("ONNX Runtime", "cpu") from error
    raise BackendError(
        f"{load_failure(error, 'onnxruntime')}: pip install --force-reinstall onnxruntime, or use --backend openvino"
    ) from error


def open_session(path: Path, threads: int | None) -> Any:
    """An onnxruntime.InferenceSession of the CPU; ModelFileError if ONNX Runtime cannot read the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: the user gets them as one line
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base but this one
        raise ModelFileError(f"{path}: ONNX Runtime cannot read it ({reason(error)}): export it again") from error


class OnnxRuntimeBackend(HostBackend):
    """Runs an FP32 ONNX file with ONNX Runtime's CPU provider.

    Raises:
        BackendError: the file is not FP32.
        ModelFileError: ONNX Runtime cannot read the file, or it has other shapes than its passport.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, passport: Passport, threads: int | None = None) -> None:
        if passport.precision != "fp32":
            raise BackendError(
                f"{path} is {passport.precision.upper()}, which ONNX Runtime computes wrongly or slowly on a CPU: "
                f"use OpenVINO (pip install 'edgepose[cpu]', --backend openvino), or the FP32 file"
            )
        self._session: Any = open_session(path, threads)
        try:
            crops, outputs = self._session.get_inputs()[0], self._session.get_outputs()
            heatmaps = next((output for output in outputs if output.name == "heatmaps"), outputs[0])
            self._crops, self._heatmaps = crops.name, heatmaps.name
        except IndexError as error:
            raise ModelFileError(f"{path} has no input or no output: export it again") from error
        except Exception as error:  # its exceptions have no common base but this one; names may be no UTF-8
            raise ModelFileError(f"{path}: ONNX Runtime cannot read it ({reason(error)}): export it again") from error
        super().__init__(path, passport, check_shapes(path, passport.spec, _sizes(crops), _sizes(heatmaps)))

    def _run(self, crops: np.ndarray) -> np.ndarray:
        if self._session is None:
            raise ValueError("the backend is closed")
        return np.asarray(self._session.run([self._heatmaps], {self._crops: crops})[0])

    def _free(self) -> None:
        self._session = None


def _sizes(port: Any) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in port.shape]
