"""A runtime runs a model file: arrays by name in, arrays by name out. What they mean stands on top of it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from edgepose.errors import BackendError
from edgepose.model.passport import Passport
from edgepose.model.shapes import as_text, check_arrays, fits_shape

LARGEST_BATCH = 8  # at a time on a CPU: OpenVINO keeps the memory of its largest run, and more gain nothing

Arrays = Mapping[str, np.ndarray]


class Runtime(Protocol):
    """Runs one model file. One instance serves one thread at a time; several may live side by side.

    Inputs and outputs bear the names of the passport's spec (`ModelSpec.inputs`, `outputs`); all begin with the batch.

    Attributes:
        name: "openvino", "onnxruntime" or "tensorrt".
        arithmetic: what it computes in, for people.
    """

    name: str
    arithmetic: str
    path: Path
    passport: Passport

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Every output for every input, N rows each, float32. N may be 0.

        Raises:
            ValueError: an input is missing, or of another shape or dtype; or the runtime is closed.
            BackendError: the runtime failed, or gave other shapes than the passport says.
        """
        ...

    def close(self) -> None:
        """Free its memory; a second call does nothing."""
        ...


@runtime_checkable
class Decoding(Runtime, Protocol):
    """A runtime that reads key points from the network's outputs itself, so that these need not be copied."""

    def decodes(self, *, flip_test: bool) -> bool:
        """Whether `keypoints` can do that with this file."""
        ...

    def keypoints(self, crops: np.ndarray, *, flip_test: bool = False) -> np.ndarray:
        """(N, 3, H, W) float32 crops to what `stages.one_person` decodes: (N, K, 3) or, with a depth, (N, K, 4)."""
        ...


@runtime_checkable
class Grouping(Runtime, Protocol):
    """A runtime that finds people in a bottom-up network's maps itself, so that these need not be copied."""

    def people(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(1, 3, H, W) float32 to what `decode_fields` or `decode_tags` gives, in px of the maps."""
        ...


class HostRuntime(ABC):
    """What the runtimes of the CPU share: checks, batches, errors. A class for each adds `_run`, which gets one batch.

    Args:
        path: the model file, for messages.
        passport: its passport.
        fixed_batch: the only batch size the graph takes; None if any.
    """

    name: str
    arithmetic = "FP32"

    def __init__(self, path: Path, passport: Passport, fixed_batch: int | None) -> None:
        self.path, self.passport = path, passport
        self._fixed_batch = fixed_batch

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Every output for every input, N rows each, float32. N may be 0.

        Raises:
            ValueError: an input is missing, or of another shape or dtype; or the runtime is closed.
            BackendError: the runtime failed, or gave other shapes than the passport says.
        """
        spec = self.passport.spec
        count = check_arrays(arrays, spec)
        whole = {name: np.ascontiguousarray(arrays[name]) for name in spec.inputs}
        if count == 0:
            return {
                name: np.empty((0, *(size or 0 for size in shape)), np.float32) for name, shape in spec.outputs.items()
            }
        step = self._fixed_batch or LARGEST_BATCH
        parts = [
            self._run_batch({name: array[start : start + step] for name, array in whole.items()})
            for start in range(0, count, step)
        ]
        return (
            parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        self._free()

    @abstractmethod
    def _run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Inputs (n, ...) to outputs (n, ...), n > 0; of the fixed batch, if there is one. RuntimeError if it fails."""

    @abstractmethod
    def _free(self) -> None:
        """Drop the runtime's objects."""

    def _run_batch(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(arrays.values())))
        if self._fixed_batch and count < self._fixed_batch:
            rest = self._fixed_batch - count
            arrays = {
                name: np.concatenate([array, np.zeros((rest, *array.shape[1:]), array.dtype)])
                for name, array in arrays.items()
            }
        try:
            outputs = self._run(arrays)
        except RuntimeError as error:
            raise BackendError(f"{self.name} failed on {self.path}: {reason(error)}") from error
        rows = self._fixed_batch or count
        for name, shape in self.passport.spec.outputs.items():
            if len(outputs[name]) != rows or not fits_shape(outputs[name].shape[1:], shape):
                raise BackendError(
                    f"{self.path} gave {name} of {as_text(outputs[name].shape)} for {rows} {_inputs_word(arrays)}, its "
                    f"passport says {as_text(shape)} for each: export or import it again"
                )
        return {name: output[:count].astype(np.float32, copy=False) for name, output in outputs.items()}


def reason(error: Exception) -> str:
    """The last line of a runtime's error, without places in its own sources, which the lines before it tell as well.

    Raises:
        MemoryError: that is the reason, and nothing is wrong with the file.
    """
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        raise MemoryError from error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(cc|cpp|h):\d+ ", "", lines[-1])


def _inputs_word(arrays: Arrays) -> str:
    return "crops" if "crops" in arrays else "inputs"
