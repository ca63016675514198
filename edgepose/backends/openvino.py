"""OpenVINO on the CPU: the embedded default. It computes FP32, FP16 and INT8 (Q/DQ) files as they are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.openvino_graph import int8_kernels_are_exact, openvino, read_onnx, settings
from edgepose.backends.runtime import Arrays, HostRuntime, reason
from edgepose.errors import BackendError, ModelFileError
from edgepose.machine.system import bf16_instructions
from edgepose.model.heads import Shape
from edgepose.model.passport import Passport
from edgepose.model.shapes import match_tensors


class OpenVinoRuntime(HostRuntime):
    """Runs an ONNX file with OpenVINO's CPU plug-in.

    Args:
        exact: of an INT8 file: compute all in FP32 on the quantised values; False: with INT8 kernels where they do not
            saturate.
        store_fp16: round every result that the file has in FP16 to FP16, as a GPU stores it: several times slower.
        bf16: compute what is not INT8 in BF16.

    Raises:
        BackendError: BF16 is asked for, and this CPU has none.
        ModelFileError: OpenVINO cannot read the file, or it has other tensors than its passport.
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
        bf16: bool = False,
    ) -> None:
        spec = passport.spec
        if bf16 and not bf16_instructions():
            raise BackendError(f"{path}: this CPU has no BF16 (avx512_bf16, amx_bf16, bf16): leave out --backend")
        try:
            if passport.precision == "int8":
                kernels = "INT8 kernels" + ("" if int8_kernels_are_exact() else " where this CPU's are right")
                self.arithmetic = "FP32 on INT8 values" if exact else kernels
            elif passport.precision == "fp16":
                self.arithmetic = "FP32 on FP16 weights"
            if bf16:
                self.name = "openvino-bf16"
                self.arithmetic = f"{self.arithmetic}, the rest in BF16" if passport.precision == "int8" else "BF16"
            if passport.precision != "fp32" and store_fp16:
                self.arithmetic += ", stored as FP16"
            core = openvino.Core()
            model = read_onnx(path, exact=exact, store_fp16=store_fp16)
            names, fixed_batch = match_tensors(path, spec, _shapes(model.inputs), _shapes(model.outputs))
            ports = {port.get_any_name(): port for port in model.inputs}
            self._inputs = [(name, model.inputs.index(ports[names[name]])) for name in spec.inputs]
            sizes = {ports[names[name]]: [fixed_batch or -1, *shape] for name, shape in spec.inputs.items()}
            model.reshape(sizes)
            match_tensors(path, spec, _shapes(model.inputs), _shapes(model.outputs))
            self._dtypes = {name: ports[names[name]].element_type.to_dtype() for name in spec.inputs}
            order = [port.get_any_name() for port in model.outputs]
            self._outputs = {name: order.index(names[name]) for name in spec.outputs}
            self._request = core.compile_model(model, "CPU", settings(threads, bf16=bf16)).create_infer_request()
        except (RuntimeError, UnicodeDecodeError) as error:  # a name may be no UTF-8
            raise ModelFileError(f"{path}: OpenVINO cannot read it ({reason(error)}): export it again") from error
        super().__init__(path, passport, fixed_batch)

    def _run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        if self._request is None:
            raise ValueError("the backend is closed")
        fed = {index: arrays[name].astype(self._dtypes[name], copy=False) for name, index in self._inputs}
        results = self._request.infer(fed, share_inputs=True)
        return {name: np.array(results[index]) for name, index in self._outputs.items()}

    def _free(self) -> None:
        self._request = None


def _shapes(ports: Any) -> dict[str, Shape]:
    return {
        port.get_any_name(): tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
        for port in ports
    }
