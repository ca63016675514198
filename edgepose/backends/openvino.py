"""OpenVINO on the CPU: the embedded default. It computes FP32, FP16 and INT8 (Q/DQ) files as they are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.host import HostBackend, check_shapes, reason
from edgepose.backends.openvino_graph import int8_kernels_are_exact, openvino, read_onnx, settings
from edgepose.errors import ModelFileError
from edgepose.model.passport import Passport


class OpenVinoBackend(HostBackend):
    """Runs an ONNX file with OpenVINO's CPU plug-in.

    Args:
        exact: of an INT8 file: compute all in FP32 on the quantised values; False: with INT8 kernels where they do not
            saturate.
        store_fp16: round every result that the file has in FP16 to FP16, as a GPU stores it: several times slower.

    Raises:
        ModelFileError: OpenVINO cannot read the file, or it has other shapes than its passport.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        passport: Passport,
        threads: int | None = None,
        *,
        exact: bool = False,
        store_fp16: bool = False,
    ) -> None:
        height, width = passport.spec.image.size_hw
        try:
            if passport.precision == "int8":
                kernels = "INT8 kernels" + ("" if int8_kernels_are_exact() else " where this CPU's are right")
                self.arithmetic = "FP32 on INT8 values" if exact else kernels
            elif passport.precision == "fp16":
                self.arithmetic = "FP32 on FP16 weights"
            if passport.precision != "fp32" and store_fp16:
                self.arithmetic += ", stored as FP16"
            core = openvino.Core()
            model = read_onnx(path, exact=exact, store_fp16=store_fp16)
            crops, heatmaps = model.inputs[0], _heatmaps_of(model)
            fixed_batch = check_shapes(path, passport.spec, _sizes(crops), _sizes(heatmaps))
            model.reshape({crops: [fixed_batch or -1, 3, height, width]})
            check_shapes(path, passport.spec, _sizes(crops), _sizes(heatmaps))
            self._crops_dtype = crops.element_type.to_dtype()
            self._output = model.outputs.index(heatmaps)
            self._request = core.compile_model(model, "CPU", settings(threads)).create_infer_request()
        except RuntimeError as error:
            raise ModelFileError(f"{path}: OpenVINO cannot read it ({reason(error)}): export it again") from error
        super().__init__(path, passport, fixed_batch)

    def _run(self, crops: np.ndarray) -> np.ndarray:
        if self._request is None:
            raise ValueError("the backend is closed")
        outputs = self._request.infer([crops.astype(self._crops_dtype, copy=False)], share_inputs=True)
        return np.asarray(outputs[self._output])

    def _free(self) -> None:
        self._request = None


def _heatmaps_of(model: Any) -> Any:
    """The output called heatmaps, or else the first."""
    named = [output for output in model.outputs if "heatmaps" in output.get_names()]
    return (named or model.outputs)[0]


def _sizes(port: Any) -> list[int | None]:
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
