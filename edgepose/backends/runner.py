"""Arrays by name in, arrays by name out: an ONNX on the CPU whose spec says what they are called.

For networks that take no picture of a person and make no heat maps; those have `load_backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends import ENGINE_SUFFIXES
from edgepose.backends.host import reason
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.model.passport import Passport

Arrays = Mapping[str, np.ndarray]


class Runner:
    """Runs one ONNX file.

    Attributes:
        path, passport: the file and what is known of it.
        name: of the runtime.
    """

    def __init__(self, path: Path, passport: Passport, name: str, run: Callable[[Arrays], Arrays]) -> None:
        self.path, self.passport, self.name, self._run = path, passport, name, run

    def __call__(self, inputs: Arrays) -> Arrays:
        """The outputs for (n, ...) float32 inputs; n may be 0.

        Raises:
            ValueError: inputs of other names, shapes or dtype than the spec's.
            BackendError: the runtime failed.
        """
        spec = self.passport.spec
        wanted = {name: (len(values), *spec.inputs[name]) for name, values in inputs.items() if name in spec.inputs}
        found = {name: values.shape for name, values in inputs.items()}
        if wanted != found or any(values.dtype != np.float32 for values in inputs.values()):
            raise ValueError(f"inputs must be {spec.inputs} float32 with n in front, got {found}")
        if not len(next(iter(inputs.values()))):
            return {name: np.zeros((0, *(side or 0 for side in shape)), np.float32) for name, shape in
                    spec.outputs.items()}  # fmt: skip
        try:
            return self._run(inputs)
        except RuntimeError as error:
            raise BackendError(f"{self.name} failed on {self.path}: {reason(error)}") from error


def load_runner(path: Path, passport: Passport, *, backend: str | None = None, threads: int | None = None) -> Runner:
    """Open an ONNX file with OpenVINO, or with ONNX Runtime where that is missing and the file is FP32.

    An INT8 file is computed exactly: in FP32 on the quantised values.

    Args:
        backend: "openvino" or "onnxruntime"; None takes what fits.
        threads: CPU threads; None leaves it to the runtime.

    Raises:
        ModelFileError: the runtime cannot read the file, or it has other inputs or outputs than its passport says.
        BackendError: that backend cannot run that file rightly.
        MissingPackageError: the backend's package is not installed.
    """
    if path.suffix in ENGINE_SUFFIXES:
        raise BackendError(f"{path} is a TensorRT engine, which is not run here: give the ONNX it was built from")
    if backend != "onnxruntime":
        try:
            return Runner(path, passport, "openvino", _openvino(path, passport, threads))
        except MissingPackageError:
            if backend == "openvino" or passport.precision != "fp32" or find_spec("onnxruntime") is None:
                raise
    if passport.precision != "fp32":
        raise BackendError(
            f"{path} is {passport.precision.upper()}, which ONNX Runtime computes wrongly or slowly on a CPU: "
            f"use OpenVINO (pip install 'edgepose[cpu]', --backend openvino), or the FP32 file"
        )
    return Runner(path, passport, "onnxruntime", _onnxruntime(path, passport, threads))


def _openvino(path: Path, passport: Passport, threads: int | None) -> Callable[[Arrays], Arrays]:
    from edgepose.backends.openvino_graph import openvino, read_onnx, settings

    spec = passport.spec
    try:
        model = read_onnx(path, exact=True)
        ports = {kind: {port.get_any_name(): port for port in getattr(model, kind)} for kind in ("inputs", "outputs")}
        for kind, wanted in (("inputs", spec.inputs), ("outputs", spec.outputs)):
            found = {name: _sizes(port) for name, port in ports[kind].items()}
            _check(path, kind, found, wanted)
        compiled = openvino.Core().compile_model(model, "CPU", settings(threads))
        request = compiled.create_infer_request()
    except RuntimeError as error:
        raise ModelFileError(f"{path}: OpenVINO cannot read it ({reason(error)}): export it again") from error

    def run(inputs: Arrays) -> Arrays:
        results = request.infer(dict(inputs))
        return {name: np.asarray(results[name], np.float32).copy() for name in spec.outputs}

    return run


def _onnxruntime(path: Path, passport: Passport, threads: int | None) -> Callable[[Arrays], Arrays]:
    from edgepose.backends.ort import open_session

    session = open_session(path, threads)
    spec = passport.spec
    for kind, ports, wanted in (
        ("inputs", session.get_inputs(), spec.inputs),
        ("outputs", session.get_outputs(), spec.outputs),
    ):
        found = {port.name: [size if isinstance(size, int) else None for size in port.shape] for port in ports}
        _check(path, kind, found, wanted)
    names = list(spec.outputs)

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def _sizes(port: Any) -> list[int | None]:
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]


def _check(
    path: Path, kind: str, found: Mapping[str, Sequence[int | None]], wanted: Mapping[str, Sequence[int | None]]
) -> None:
    """ModelFileError unless the graph has these inputs or outputs, each with the batch in front."""
    for name, shape in wanted.items():
        sizes = found.get(name)
        if sizes is None:
            raise ModelFileError(
                f"{path}: the graph's {kind} are {', '.join(found)}, its passport says {', '.join(wanted)}: "
                f"export it again"
            )
        fits = len(sizes) == len(shape) + 1 and all(
            None in (size, want) or size == want for size, want in zip(sizes[1:], shape, strict=False)
        )
        if not fits or sizes[0] is not None:
            raise ModelFileError(
                f"{path}: the graph's {name} is {_text(sizes)}, its passport says n, {_text(shape)}: export it again"
            )


def _text(shape: Sequence[int | None]) -> str:
    return ", ".join("?" if size is None else str(size) for size in shape)
