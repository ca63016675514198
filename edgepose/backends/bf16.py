"""OpenVINO in BF16, with the first crops looked at once more in FP32: what the speed costs in key points.

BF16 has 8 bits of mantissa. Nothing that judges a file computes in it: whoever wants it names it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepose.backends import BF16, load_runtime
from edgepose.backends.host import HostBackend
from edgepose.backends.runtime import Arrays, Runtime
from edgepose.stages.one_person import decode_outputs

CROPS = 32  # that are looked at twice
CONFIDENT = 0.3  # of FP32's score: key points that are compared


class ComparedRuntime:
    """A runtime whose first CROPS crops a second one computes as well; the first one's results are given.

    Args:
        fast, sure: of one file; both are closed with it.
    """

    def __init__(self, fast: Runtime, sure: Runtime) -> None:
        self._fast, self._sure, self._left = fast, sure, CROPS
        self._shifts: list[np.ndarray] = []
        self.name, self.arithmetic = fast.name, fast.arithmetic
        self.path, self.passport = fast.path, fast.passport

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """As `Runtime.run`."""
        outputs = self._fast.run(arrays)
        if self._left and arrays["crops"].any():  # a warm-up's empty picture tells nothing
            self._compare(*({name: array[: self._left] for name, array in each.items()} for each in (arrays, outputs)))
        return outputs

    def _compare(self, arrays: Arrays, outputs: Arrays) -> None:
        spec = self.passport.spec
        (found, grid_hw), (wanted, _) = (decode_outputs(each, spec) for each in (outputs, self._sure.run(arrays)))
        to_crop = np.array(spec.image.size_hw[::-1]) / np.array(grid_hw[::-1])
        shifts = np.linalg.norm((found[..., :2] - wanted[..., :2]) * to_crop, axis=2)
        self._shifts.append(shifts[wanted[..., 2] > CONFIDENT])
        self._left -= len(found)
        if not self._left:
            self._sure.close()

    def cost(self) -> str:
        """How far key points lie from FP32's, in px of the crop; one line."""
        shifts = np.concatenate([*self._shifts, np.zeros(0)])
        about = f"{self.path.name} in BF16, {len(shifts)} confident key points of the first {CROPS - self._left} crops"
        if not len(shifts):
            return f"{about}: nothing to compare with FP32"
        median, most = np.percentile(shifts, [50, 95])
        return f"{about}: {median:.2f} px of the crop from FP32's in the median, {most:.2f} px at 95 %"

    def close(self) -> None:
        """Close both; a second call does nothing."""
        self._fast.close()
        self._sure.close()


def compared_in_fp32(path: Path, threads: int | None = None) -> tuple[HostBackend, ComparedRuntime]:
    """A network of crops in BF16, and its runtime, which can tell the cost.

    Raises:
        ModelFileError, BackendError, MissingPackageError: as `load_backend`.
    """
    runtime = ComparedRuntime(*(load_runtime(path, backend=name, threads=threads) for name in (BF16, "openvino")))
    return HostBackend(runtime), runtime
