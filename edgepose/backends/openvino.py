"""OpenVINO on the CPU: the embedded default. It computes FP32, FP16 and INT8 (Q/DQ) files as they are meant."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends.host import HostBackend, check_shapes, reason
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.packages import is_absent, load_failure
from edgepose.passport import Passport


def _import_openvino() -> Any:
    """`import openvino` without its telemetry, which reports every import to its vendor over the network."""
    hide = "openvino_telemetry" not in sys.modules
    if hide:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then takes its own stub
    try:
        return import_module("openvino")
    except (ImportError, OSError) as error:
        if is_absent(error, "openvino"):
            raise MissingPackageError("OpenVINO", "cpu") from error
        raise BackendError(
            f"{load_failure(error, 'openvino')}: pip install --force-reinstall openvino, or run an FP32 file with "
            f"--backend onnxruntime"
        ) from error
    finally:
        if hide:
            del sys.modules["openvino_telemetry"]


openvino = _import_openvino()


class OpenVinoBackend(HostBackend):
    """Runs an ONNX file with OpenVINO's CPU plug-in.

    Raises:
        ModelFileError: OpenVINO cannot read the file, or it has other shapes than its passport.
    """

    name = "openvino"

    def __init__(self, path: Path, passport: Passport, threads: int | None = None) -> None:
        height, width = passport.spec.input_hw
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # What is not quantised is computed in FP32: the default is BF16 where the CPU has it (8 bits of mantissa).
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            model = _read_onnx(path)
            crops, heatmaps = model.inputs[0], _heatmaps_of(model)
            fixed_batch = check_shapes(path, passport.spec, _sizes(crops), _sizes(heatmaps))
            model.reshape({crops: [fixed_batch or -1, 3, height, width]})
            check_shapes(path, passport.spec, _sizes(crops), _sizes(heatmaps))
            _keep_concats_in_float(model)
            self._crops_dtype = crops.element_type.to_dtype()
            self._output = model.outputs.index(heatmaps)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
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


def _read_onnx(path: Path) -> Any:
    """The model of an ONNX file; RuntimeError if it is none.

    `Core.read_model` would try the readers of all other formats on a damaged file, and some write to stderr.
    """
    frontend = import_module("openvino.frontend").FrontEndManager().load_by_framework("onnx")
    try:
        model = frontend.convert(frontend.load(str(path)))
    except Exception as error:  # the reader's exceptions have no common base but this one
        raise RuntimeError(str(error)) from error
    if not model.inputs or not model.outputs:
        raise RuntimeError("it has no input or no output")
    return model


def _keep_concats_in_float(model: Any) -> None:
    """Make what is joined and then quantised an output as well, so that OpenVINO joins it before it quantises it.

    Otherwise it moves the quantisation in front of the Concat, where 2026.4 rounds to whole numbers instead of to the
    file's step: key points of networks with a Concat were tens of pixels off.
    """
    for operator in model.get_ordered_ops():
        if operator.get_type_name() == "Concat" and "FakeQuantize" in _readers(operator.output(0)):
            model.add_outputs(operator.output(0))


def _readers(output: Any) -> set[str]:
    """Types of the operators that read a tensor, in whatever precision."""
    found: set[str] = set()
    for port in output.get_target_inputs():
        reader = port.get_node()
        found |= _readers(reader.output(0)) if reader.get_type_name() == "Convert" else {reader.get_type_name()}
    return found


def _heatmaps_of(model: Any) -> Any:
    """The output called heatmaps, or else the first."""
    named = [output for output in model.outputs if "heatmaps" in output.get_names()]
    return (named or model.outputs)[0]


def _sizes(port: Any) -> list[int | None]:
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
