"""A lifter's INT8: m.onnx and tracks -> m.calibration.json and m.int8.onnx, checked in millimetres on other tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from edgepose.calibration.ranges import find_ranges
from edgepose.calibration.results import PACKAGES, CalibrationFiles, load_onnx, read_fp32_passport, write_int8
from edgepose.calibration.table import CalibrationTable, usable_table, write_table
from edgepose.errors import CalibrationError
from edgepose.estimate.lift import Lifter, open_lifter
from edgepose.export.graph.fold import fold
from edgepose.export.graph.fp16 import to_fp16
from edgepose.io.tracks import Track, Tracks, read_tracks
from edgepose.io.watching import Watch, unwatched

HELD_OUT_SHARE = 10  # one track in so many is kept for checking
MM = 1000.0


@dataclass(frozen=True)
class CalibratedLifter:
    """What a calibration wrote and what INT8 does to positions.

    Attributes:
        int8, table: the files.
        reused: True if the ranges came from an earlier run with the same inputs.
        windows: how many gave the ranges.
        mean_mm, p95_mm, largest_mm: distances of key points from FP32's, in `poses` poses.
        apart: the poses are of other tracks than the ones calibrated on.
        random_weights: True: the figures mean nothing.
    """

    int8: Path
    table: Path
    reused: bool
    windows: int
    mean_mm: float
    p95_mm: float
    largest_mm: float
    poses: int
    apart: bool
    random_weights: bool

    def summary(self) -> str:
        """What was written and what INT8 costs, for people."""
        source = "ranges of an earlier run on the same tracks" if self.reused else f"ranges of {self.windows} windows"
        checked = "poses of held-out tracks" if self.apart else "poses, of the track that was calibrated on"
        lines = [
            f"{self.int8}: {source} ({self.table})",
            f"key points moved from FP32's by {self.mean_mm:.1f} mm on average, {self.p95_mm:.1f} at the 95th "
            f"percentile, {self.largest_mm:.0f} at most ({self.poses} {checked})",
        ]
        return "\n".join(lines + ["The weights are random: these figures mean nothing."] * self.random_weights)


def calibrate_lifter(
    model_path: Path,
    tracks_file: Path,
    *,
    method: str = "mse",
    limit: int = 512,
    seed: int = 0,
    output_dir: Path | None = None,
    watch: Watch = unwatched,
) -> CalibratedLifter:
    """Find ranges on windows of tracks and write the INT8 lifter; both files, or none.

    All convolutions become INT8 but the first and the last: 127 steps would round key points before anything is
    computed.

    Args:
        tracks_file: see `io.tracks`; positions are not needed.
        method, limit, seed: how a range is taken from what was seen, how many windows, and which.

    Raises:
        ModelFileError: the model or its passport is missing, damaged, not FP32, or no lifter for these key points.
        InputError, CalibrationError: the tracks cannot be used.
    """
    passport = read_fp32_passport(model_path)
    lifter = open_lifter(model_path, backend="onnxruntime")
    tracks = read_tracks(tracks_file)
    fitting, held_out = _split(tracks)
    windows = _some_windows(lifter, tracks, fitting, limit, seed)
    files = CalibrationFiles.of(model_path, output_dir)
    made_from = {
        "model_sha256": passport.sha256,
        "tracks_sha256": tracks.sha256,
        "method": method,
        "limit": limit,
        "seed": seed,
        "versions": {name: version(name) for name in PACKAGES},
    }
    graph = fold(load_onnx(model_path))
    layers = inner_layers(graph)
    table = usable_table(files.table, made_from)
    reused = table is not None
    if table is None:
        seen = watch("finding ranges", (window[None] for window in windows), len(windows))
        ranges = find_ranges(graph, seen, list(quantised_inputs(graph, layers)), method)
        table = CalibrationTable(made_from, ranges, {}, {})
        write_table(files.table, table)

    def judge(written: Path) -> tuple[dict[str, float], tuple[float, float, float, int]]:
        distances = _distances(lifter, open_lifter(written, backend="openvino"), tracks, held_out)
        figures = (distances.mean(), np.percentile(distances, 95), distances.max())
        mean, p95, largest = (MM * float(value) for value in figures)
        verified = {"int8_mean_mm": mean, "int8_p95_mm": p95, "int8_largest_mm": largest}
        return verified, (mean, p95, largest, len(distances))

    mixed = to_fp16(insert_qdq(graph, table.ranges, layers))
    moved = write_int8(files, passport, mixed, judge, prepared=graph, layers=layers)
    apart = held_out is not fitting
    return CalibratedLifter(files.int8, files.table, reused, len(windows), *moved, apart, passport.random_weights)


def inner_layers(graph: onnx.ModelProto) -> list[str]:
    """The convolutions to make INT8: all but the head and those that read the input, which may have been moved about.

    Args:
        graph: folded.
    """
    moved = {graph.graph.input[0].name}
    for node in graph.graph.node:
        if node.op_type in ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Identity") and node.input[0] in moved:
            moved.update(node.output)
    first = {node.output[0] for node in graph.graph.node if node.op_type == "Conv" and node.input[0] in moved}
    layers = [name for name in quantisable_layers(graph) if name not in first]
    if not layers:
        raise CalibrationError("this lifter has no convolution between its first and its last layer: nothing to do")
    return layers


def _split(tracks: Tracks) -> tuple[Sequence[Track], Sequence[Track]]:
    """Tracks to take ranges from, and tracks to check on; the same ones where there is only one."""
    held_out = tracks.tracks[::HELD_OUT_SHARE]
    fitting = [track for index, track in enumerate(tracks.tracks) if index % HELD_OUT_SHARE]
    return (fitting, held_out) if fitting else (tracks.tracks, tracks.tracks)


def _some_windows(lifter: Lifter, tracks: Tracks, some: Sequence[Track], limit: int, seed: int) -> np.ndarray:
    """(n, frames, K, 2) windows of the tracks, at most `limit`, at random."""
    found = [
        windows
        for track in some
        for windows in lifter.windows(track.frames, track.xy, track.scores, tracks.points, track.image_wh)
        if not np.isnan(windows).any()
    ]
    if not found:
        raise CalibrationError(f"{tracks.name}: each of its tracks lacks a key point throughout; wanted: a whole one")
    windows = np.concatenate(found)
    chosen = np.random.default_rng(seed).permutation(len(windows))[:limit]
    return windows[chosen]


def _distances(exact: Lifter, int8: Lifter, tracks: Tracks, some: Sequence[Track]) -> np.ndarray:
    """(poses, K) metres between both lifters' key points."""
    apart = []
    for track in some:
        arguments = (track.frames, track.xy, track.scores, tracks.points, track.image_wh)
        apart.append(np.linalg.norm(exact.track(*arguments) - int8.track(*arguments), axis=2))
    distances = np.concatenate(apart)
    known = np.isfinite(distances).all(axis=1)
    if not known.any():
        raise CalibrationError(f"{tracks.name}: the tracks kept for checking lack a key point throughout; give more")
    return distances[known]
