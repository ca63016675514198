"""The people of the INT8 comparison, and what a quantised graph loses on them against FP32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from edgepose.backends.host import HostBackend
from edgepose.benchmarks.peers.int8_networks import Network, one_pass
from edgepose.benchmarks.peers.shares import int8_share
from edgepose.benchmarks.studies.int8_shift import clear_peaks, sqnr_db
from edgepose.calibration.budget import CONFIDENT, FigureJudge
from edgepose.evaluation.evaluate import annotated_boxes
from edgepose.io.annotations import Annotations
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import decode_outputs


@dataclass(frozen=True)
class Row:
    """One way to quantise one network.

    Attributes:
        int8_share: of the multiply-adds.
        mean, p95: shift of key points, px of the input; None where FP32 has none to compare.
        lost, error: percentage points of the network's figure and their paired standard error; None without a figure.
        seconds: that the tool took.
        sqnr: of the heat maps, dB, where there is no figure; None where maps are equal, too.
    """

    int8_share: float
    mean: float | None
    p95: float | None
    lost: float | None
    error: float | None
    seconds: float
    sqnr: float | None = None


class AsWritten:
    """A runtime that computes a graph node by node.

    Attributes:
        kept: the key points that it found, heat-map px; maps: and the heat maps, if `keep_maps`.
    """

    name, arithmetic = "onnxruntime", "as written"

    def __init__(self, model: onnx.ModelProto, path: Path, spec: ModelSpec, keep_maps: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.path, self.passport = path, replace(read_passport(path), spec=spec)
        self.kept: list[np.ndarray] = []
        self.maps: list[np.ndarray] | None = [] if keep_maps else None

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Heat maps (N, K, h, w) for crops (N, 3, H, W), one crop at a time."""
        name, spec = self._session.get_inputs()[0].name, self.passport.spec
        maps = [self._session.run(["heatmaps"], {name: crop[None]})[0] for crop in arrays["crops"]]
        empty = np.zeros((0, len(spec.skeleton.keypoints), *spec.grid_hw), np.float32)
        outputs = {"heatmaps": np.concatenate([empty, *maps]).astype(np.float32)}
        self.kept.append(decode_outputs(outputs, spec)[0])
        if self.maps is not None:
            self.maps.append(outputs["heatmaps"])
        return outputs

    def close(self) -> None:
        """Nothing to free."""


class People:
    """Those a network is measured on, with what FP32 finds.

    A network that nobody trained has no figure, and its scores say nothing: its clear peaks are compared, and its maps.
    """

    def __init__(self, network: Network, fp32: Path, shared: Path) -> None:
        self.spec = one_pass(fp32)
        self.annotations, self.folder = network.people(shared)
        self.fp32, self.judge = fp32, None
        reference = AsWritten(onnx.load(fp32), fp32, self.spec, keep_maps=not network.unit)
        if network.unit:
            seen = frozenset[str]()
            self.judge = FigureJudge(network.unit, HostBackend(reference), self.annotations, self.folder, seen)
        else:
            _look(HostBackend(reference), self.annotations, self.folder)
        self.maps = reference.maps
        self.wanted: list[np.ndarray] = reference.kept
        self.compared = [points[..., 2] > CONFIDENT for points in self.wanted]
        if self.maps is not None:
            self.compared = [clear_peaks(maps) for maps in self.maps]

    def measure(self, model: onnx.ModelProto, seconds: float) -> Row:
        """What a quantised graph loses against FP32."""
        runtime = AsWritten(model, self.fp32, self.spec, keep_maps=self.maps is not None)
        loss = noise = None
        if self.judge is None:
            _look(HostBackend(runtime), self.annotations, self.folder)
        else:
            loss = self.judge.loss(HostBackend(runtime))
        scale = self.spec.image.size_hw[1] / self.spec.grid_hw[1]
        moved = scale * np.concatenate(
            [
                np.linalg.norm(found[..., :2] - exact[..., :2], axis=-1)[compared]
                for found, exact, compared in zip(runtime.kept, self.wanted, self.compared, strict=True)
            ]
        )
        mean, p95 = (float(moved.mean()), float(np.quantile(moved, 0.95))) if len(moved) else (None, None)
        lost, error = (None, None) if loss is None else (loss.value, loss.error)
        if self.maps is not None and runtime.maps is not None:
            noise = sqnr_db(np.concatenate(self.maps), np.concatenate(runtime.maps))
        known = noise if noise is not None and np.isfinite(noise) else None
        return Row(int8_share(model), mean, p95, lost, error, seconds, known)


def _look(backend: HostBackend, annotations: Annotations, folder: Path) -> None:
    for image in annotations.images:
        pixels = read_image(folder / image.file_name)
        boxes = annotated_boxes(image, pixels.shape[:2])[image.posed]
        backend.keypoints(pixels, Regions.around(boxes, backend.spec))
