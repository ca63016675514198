"""The range of each tensor over a calibration set: one pass, a running histogram per tensor.

Memory does not grow with the number of crops. The methods that turn a histogram into a range:

* minmax: the largest magnitude seen.
* percentile: the magnitude that all but 0.01 % of the values stay below.
* entropy: the range whose 128 levels keep most of the distribution, by Kullback-Leibler divergence
  (Migacz, "8-bit inference with TensorRT", GTC 2017).
* mse: the range with the least mean squared rounding and clipping error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.errors import CalibrationError

METHODS = ("minmax", "percentile", "entropy", "mse")
BINS = 2048
LEVELS = 127  # steps on the positive side
PERCENTILE = 0.9999


class Histogram:
    """Counts of magnitudes in 2048 bins from 0 to a power of two that doubles, by merging bins in pairs, as needed.

    Bins merge exactly, so the outcome does not depend on the order or the grouping of the values.

    Attributes:
        counts: (2048,) int64; bin i holds magnitudes from i to i + 1 times `top` / 2048.
        top: upper end of the last bin, above every value; 0 as long as all values were 0.
        largest: the largest magnitude.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.top = 0.0
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        """Count an array's values; all must be finite."""
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        largest = float(magnitudes.max(initial=0.0))
        self.largest = max(self.largest, largest)
        if largest >= self.top and largest > 0:
            top = float(2.0 ** (np.floor(np.log2(largest)) + 1))
            while 0 < self.top < top:
                self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
                self.top *= 2
            self.top = top
        bins = (magnitudes * np.float32(BINS / self.top if self.top else 0.0)).astype(np.int32)
        self.counts += np.bincount(bins, minlength=BINS)

    def range_by(self, method: str) -> float:
        """The magnitude that INT8's 127 shall stand for; 1 if all values were 0."""
        if self.largest == 0:
            return 1.0
        if method == "minmax":
            return self.largest
        width = self.top / BINS
        if method == "percentile":
            filled = int(np.searchsorted(np.cumsum(self.counts), PERCENTILE * self.counts.sum())) + 1
            return min(filled * width, self.largest)
        find = {"entropy": _divergence, "mse": _squared_error}[method]
        used = int(np.flatnonzero(self.counts)[-1]) + 1
        candidates = np.arange(min(LEVELS + 1, used), used + 1, max(1, used // 256))
        errors = [find(self.counts[:used].astype(np.float64), int(candidate)) for candidate in candidates]
        return min(float(candidates[int(np.argmin(errors))]) * width, self.largest)


def _squared_error(counts: np.ndarray, kept: int) -> float:
    """Sum of squared differences, in bin widths, if 127 stood for `kept` bins."""
    centers = np.arange(len(counts)) + 0.5
    step = kept / LEVELS
    rounded = np.minimum(np.rint(centers / step), LEVELS) * step
    return float((counts * (centers - rounded) ** 2).sum())


def _divergence(counts: np.ndarray, kept: int) -> float:
    """Kullback-Leibler divergence of the values in 128 levels of `kept` bins from those clipped there."""
    clipped = counts[:kept].copy()
    clipped[-1] += counts[kept:].sum()
    level = np.arange(kept) * (LEVELS + 1) // kept
    filled = counts[:kept] > 0
    in_level = np.bincount(level, counts[:kept], LEVELS + 1)
    bins_filled = np.bincount(level, filled, LEVELS + 1)
    spread = np.where(filled, in_level[level] / np.maximum(bins_filled[level], 1), 0.0)
    share, approximation = clipped / clipped.sum(), spread / max(spread.sum(), 1.0)
    seen = share > 0
    return float((share[seen] * np.log(share[seen] / np.maximum(approximation[seen], 1e-12))).sum())


class Probe:
    """Runs a graph with ONNX Runtime and hands over the tensors asked for, one crop at a time."""

    def __init__(self, model: onnx.ModelProto, tensors: Collection[str]) -> None:
        tapped = onnx.ModelProto()
        tapped.CopyFrom(model)
        del tapped.graph.output[:]
        self.input = model.graph.input[0].name
        self.tensors = [name for name in tensors if name != self.input]
        tapped.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.tensors
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, crop: np.ndarray) -> dict[str, np.ndarray]:
        """Tensors by name for one crop (1, 3, H, W) float32; the graph's input is among them.

        Raises:
            CalibrationError: a tensor has a value that is not finite.
        """
        values = dict(zip(self.tensors, self._session.run(self.tensors, {self.input: crop}), strict=True))
        for name, value in values.items():
            if not np.isfinite(value.max(initial=0) + value.min(initial=0)):
                raise CalibrationError(
                    f"tensor {name} has values that are not finite: the weights are damaged, "
                    f"or the images are not what this network takes"
                )
        return {self.input: crop, **values}


def find_ranges(
    model: onnx.ModelProto, crops: Iterable[np.ndarray], tensors: Collection[str], method: str
) -> dict[str, float]:
    """The range of each tensor over all crops, (1, 3, H, W) float32 each.

    Raises:
        CalibrationError: a tensor has a value that is not finite, or there is no crop.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    probe = Probe(model, tensors)
    histograms = {name: Histogram() for name in tensors}
    count = 0
    for crop in crops:
        values = probe.run(crop)
        for name, histogram in histograms.items():
            histogram.add(values[name])
        count += 1
    if count == 0:
        raise CalibrationError("no crop to take ranges from; wanted: at least one person")
    return {name: histogram.range_by(method) for name, histogram in histograms.items()}
