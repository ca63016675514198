"""The range of each tensor over a calibration set: one pass, running histograms.

Each crop votes for a range with the histogram of its own values, by one of the methods below, and the vote that
three quarters of the ordinary crops stay below wins: some pictures make activations twenty times larger than usual,
and must not stretch the range for all others. Votes are counted in histograms too, so memory does not grow with the
number of crops. What a crop votes for:

* minmax: its largest magnitude.
* percentile: the magnitude that all but 0.01 % of its values stay below.
* entropy: the range whose 128 levels keep most of the distribution, by Kullback-Leibler divergence
  (Migacz, "8-bit inference with TensorRT", GTC 2017).
* mse: the range with the least mean squared rounding and clipping error.
* max: its largest magnitude, and here the largest vote of all wins: nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgepose.errors import CalibrationError

METHODS = ("minmax", "percentile", "entropy", "mse", "max")
COMPETING = ("mse", "percentile", "minmax", "max")  # within a budget; entropy takes a hundred times as long
LEVELS = 127  # steps on the positive side
BINS = 2048
PERCENTILE = 0.9999
WINNING_SHARE = 0.75
ORDINARY_OCTAVES = 2
CANDIDATES = np.unique(np.rint(np.geomspace(BINS / 32, BINS, 128)).astype(int))  # ranges that are tried, in bins


def _squared_errors() -> np.ndarray:
    """(candidates, BINS) squared error of a value in each bin, in bin widths, where 127 stands for each candidate."""
    centers = np.arange(BINS) + 0.5
    steps = CANDIDATES[:, None] / LEVELS
    return (centers - np.minimum(np.rint(centers / steps), LEVELS) * steps) ** 2


SQUARED_ERRORS = _squared_errors()


class Histogram:
    """Counts of magnitudes in 2048 bins from 0 to a power of two above them.

    Attributes:
        counts: (2048,) bin i holds magnitudes from i to i + 1 times `top` / 2048.
        top: upper end of the last bin; 0 if all values were 0.
        largest: the largest magnitude.
    """

    def __init__(self, values: np.ndarray) -> None:
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        self.largest = float(magnitudes.max(initial=0.0))
        self.top = float(2.0 ** (np.floor(np.log2(self.largest)) + 1)) if self.largest else 0.0
        bins = (magnitudes * np.float32(BINS / self.top if self.top else 0.0)).astype(np.int32)
        self.counts = np.bincount(bins, minlength=BINS)

    def range_by(self, method: str) -> float:
        """The magnitude that 127 shall stand for; 0 if all values were 0."""
        if method in ("minmax", "max") or self.largest == 0:
            return self.largest
        if method == "percentile":
            bins = int(np.searchsorted(np.cumsum(self.counts), PERCENTILE * self.counts.sum())) + 1
        elif method == "mse":
            bins = int(CANDIDATES[np.argmin(SQUARED_ERRORS @ self.counts)])
        else:
            divergences = [_divergence(self.counts, kept) for kept in CANDIDATES if kept > LEVELS]
            bins = int(CANDIDATES[CANDIDATES > LEVELS][np.argmin(divergences)])
        return min(bins * self.top / BINS, self.largest)


def _divergence(counts: np.ndarray, kept: int) -> float:
    """Kullback-Leibler divergence of the values in 128 levels of `kept` bins from those clipped there."""
    counts = counts.astype(np.float64)
    counts[0] = counts[1]  # the zeros behind a ReLU would outweigh all else, and every range holds them
    clipped = counts[:kept].copy()
    clipped[-1] += counts[kept:].sum()
    level = np.arange(kept) * (LEVELS + 1) // kept
    filled = counts[:kept] > 0
    in_level = np.bincount(level, counts[:kept], LEVELS + 1)
    bins_filled = np.bincount(level, filled, LEVELS + 1)
    spread = np.where(filled, in_level[level] / np.maximum(bins_filled[level], 1), 0.0)
    share, approximation = clipped / max(clipped.sum(), 1.0), spread / max(spread.sum(), 1.0)
    seen = share > 0
    return float((share[seen] * np.log(share[seen] / np.maximum(approximation[seen], 1e-12))).sum())


class Votes:
    """How many crops voted for which range: a histogram of 32 bins an octave, and the largest vote as it is."""

    PER_OCTAVE, LOWEST = 32, -40

    def __init__(self) -> None:
        self.counts = np.zeros(80 * self.PER_OCTAVE, np.int64)
        self.largest = 0.0

    def add(self, value: float) -> None:
        """Count one crop's range; a tensor that is 0 all over has no vote."""
        if value > 0:
            place = int(np.ceil((np.log2(value) - self.LOWEST) * self.PER_OCTAVE))
            self.counts[np.clip(place, 0, len(self.counts) - 1)] += 1
            self.largest = max(self.largest, value)

    def __add__(self, other: Votes) -> Votes:
        """The votes of both."""
        both = Votes()
        both.counts = self.counts + other.counts
        both.largest = max(self.largest, other.largest)
        return both

    def winner(self) -> float:
        """The range that three quarters of the ordinary votes stay below, to 2 %; 1 if nobody voted.

        Ordinary are votes up to four times the lower quartile: more is another kind of picture.
        """
        if self.largest == 0:
            return 1.0
        ordinary = self._quantile(self.counts, 0.25) + ORDINARY_OCTAVES * self.PER_OCTAVE
        place = self._quantile(self.counts[: ordinary + 1], WINNING_SHARE)
        return min(float(2.0 ** (place / self.PER_OCTAVE + self.LOWEST)), self.largest)

    def winner_by(self, method: str) -> float:
        """The range by one of METHODS: of "max" the largest vote."""
        return self.largest or 1.0 if method == "max" else self.winner()

    @staticmethod
    def _quantile(counts: np.ndarray, share: float) -> int:
        return int(np.searchsorted(np.cumsum(counts), share * counts.sum()))


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
        options.log_severity_level = 3  # errors only
        options.enable_cpu_mem_arena = False  # its pools keep twice the memory
        self._session = onnxruntime.InferenceSession(
            tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, crop: np.ndarray) -> dict[str, np.ndarray]:
        """Tensors by name for one crop (1, 3, H, W) float32; the graph's input is among them.

        Raises:
            CalibrationError: a tensor has a value that is not finite.
        """
        found = self._session.run(self.tensors, {self.input: crop}) if self.tensors else []
        values = dict(zip(self.tensors, found, strict=True))
        for name, value in values.items():
            if not np.isfinite(value.max(initial=0) - value.min(initial=0)):
                raise CalibrationError(
                    f"tensor {name} has values that are not finite: the weights are damaged, "
                    f"or the images are not what this network takes"
                )
        return {self.input: crop, **values}


def find_ranges(
    model: onnx.ModelProto, crops: Iterable[np.ndarray], tensors: Collection[str], method: str
) -> dict[str, float]:
    """The range of each tensor over all crops, (1, 3, H, W) float32 each; 1 for a tensor that is 0 all over.

    Raises:
        CalibrationError: a tensor has a value that is not finite, or there is no crop.
    """
    return ranges_by_methods(model, crops, tensors, [method])[method]


def ranges_by_methods(
    model: onnx.ModelProto, crops: Iterable[np.ndarray], tensors: Collection[str], methods: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`find_ranges` of several methods in one pass: method -> tensor -> range."""
    votes = _votes(model, crops, tensors, methods)
    return {
        method: {name: (even + odd).winner_by(method) for name, (even, odd) in votes[method].items()}
        for method in methods
    }


def ranges_and_halves(
    model: onnx.ModelProto, crops: Iterable[np.ndarray], tensors: Collection[str], method: str
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """`find_ranges`, and what each half of the crops alone gives, every other one: equal halves are a stable range.

    No halves of a single crop.
    """
    votes = _votes(model, crops, tensors, [method])[method]
    ranges = {name: (even + odd).winner_by(method) for name, (even, odd) in votes.items()}
    halves = {
        name: [even.winner_by(method), odd.winner_by(method)]
        for name, (even, odd) in votes.items()
        if even.largest and odd.largest
    }
    return ranges, halves


def _votes(
    model: onnx.ModelProto, crops: Iterable[np.ndarray], tensors: Collection[str], methods: Sequence[str]
) -> dict[str, dict[str, tuple[Votes, Votes]]]:
    """Votes by method and tensor: of the first, third, ... crop, and of the others."""
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    probe = Probe(model, tensors)
    votes = {method: {name: (Votes(), Votes()) for name in tensors} for method in methods}
    count = 0
    for crop in crops:
        values = probe.run(crop)
        for name in tensors:
            histogram = Histogram(values[name])
            for method in methods:
                votes[method][name][count % 2].add(histogram.range_by(method))
        count += 1
    if count == 0:
        raise CalibrationError("no crop to take ranges from; wanted: at least one person")
    return votes
