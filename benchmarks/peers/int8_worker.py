"""One peer's quantisation of one ONNX, run by the Python of its own environment: it imports nothing of edgepose.

    PYTHON int8_worker.py SETTING FP32.onnx CROPS.npy OUTPUT.onnx

CROPS: (N, 3, H, W) float32, the very crops that edgepose calibrates on. `benchmarks.peers.int8` starts it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

ACCURACY_CROPS = 24  # that NNCF's accuracy control looks at
MOVED = 1.0  # heat-map px: a peak that moved no more is found
MAX_DROP = 0.01  # of the peaks: NNCF's default


def onnxruntime_default(source: str, crops: np.ndarray, output: str) -> None:
    """quantize_static with nothing set but Q/DQ pairs, as it is the default: min-max, a step a tensor."""
    tool: Any = import_module("onnxruntime.quantization")
    tool.quantize_static(source, output, _reader(tool, crops))


def onnxruntime_best(source: str, crops: np.ndarray, output: str) -> None:
    """BatchNorm folded, percentile, symmetric, a step a channel, depthwise convolutions and the head in float.

    The best of four settings on ultralight_simplepose (docs/decisions/int8.md).
    """
    tool: Any = import_module("onnxruntime.quantization")
    onnx: Any = import_module("onnx")
    folded = f"{output}.folded.onnx"
    tool.shape_inference.quant_pre_process(source, folded, skip_symbolic_shape=True)
    graph = onnx.load(folded).graph
    last = {item.name for item in graph.output}
    excluded = [
        node.name
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose")
        and (last & set(node.output) or any(item.name == "group" and item.i > 1 for item in node.attribute))
    ]
    tool.quantize_static(
        folded,
        output,
        _reader(tool, crops),
        per_channel=True,
        activation_type=tool.QuantType.QInt8,
        weight_type=tool.QuantType.QInt8,
        calibrate_method=tool.CalibrationMethod.Percentile,
        nodes_to_exclude=excluded,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )


def _reader(tool: Any, crops: np.ndarray) -> Any:
    class Reader(tool.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"crops": crop[None]} for crop in crops])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    return Reader()


def nncf(preset: str) -> Callable[[str, np.ndarray, str], None]:
    """nncf.quantize with a preset, all else as it is by default."""

    def run(source: str, crops: np.ndarray, output: str) -> None:
        tool: Any = import_module("nncf")
        onnx: Any = import_module("onnx")
        data = tool.Dataset([crop[None] for crop in crops], lambda crop: {"crops": crop})
        made = tool.quantize(onnx.load(source), data, preset=tool.QuantizationPreset(preset), subset_size=len(crops))
        onnx.save(made, output)

    return run


def nncf_accuracy(source: str, crops: np.ndarray, output: str) -> None:
    """nncf.quantize_with_accuracy_control: at most 1 % of the peaks may move by more than 1 heat-map px."""
    tool: Any = import_module("nncf")
    onnx: Any = import_module("onnx")
    runtime: Any = import_module("onnxruntime")

    def peaks(model: Any, feeds: list[np.ndarray]) -> np.ndarray:
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        maps = np.concatenate([session.run(["heatmaps"], {"crops": crop})[0] for crop in feeds])
        places = maps.reshape(*maps.shape[:2], -1).argmax(axis=2)
        return np.stack(np.divmod(places, maps.shape[3]), axis=2)  # (N, K, 2)

    original = onnx.load(source)

    def validate(model: Any, feeds: Any) -> tuple[float, None]:
        some = list(feeds)
        moved = np.linalg.norm(peaks(model, some) - peaks(original, some), axis=2)
        return float((moved <= MOVED).mean()), None

    feeds = [crop[None] for crop in crops]
    data, checked = (tool.Dataset(part, lambda crop: {"crops": crop}) for part in (feeds, feeds[:ACCURACY_CROPS]))
    made = tool.quantize_with_accuracy_control(
        original, data, checked, validate, max_drop=MAX_DROP, subset_size=len(crops)
    )
    onnx.save(made, output)


def modelopt(method: str) -> Callable[[str, np.ndarray, str], None]:
    """modelopt.onnx.quantization.quantize to INT8 with a method, all else as it is by default."""

    def run(source: str, crops: np.ndarray, output: str) -> None:
        tool: Any = import_module("modelopt.onnx.quantization")
        tool.quantize(
            onnx_path=source,
            quantize_mode="int8",
            calibration_data={"crops": crops},
            calibration_method=method,
            calibration_eps=["cpu"],
            output_path=output,
        )

    return run


SETTINGS: dict[str, Callable[[str, np.ndarray, str], None]] = {
    "onnxruntime-default": onnxruntime_default,
    "onnxruntime-best": onnxruntime_best,
    "nncf-default": nncf("performance"),
    "nncf-mixed": nncf("mixed"),
    "nncf-accuracy": nncf_accuracy,
    "modelopt-max": modelopt("max"),
    "modelopt-entropy": modelopt("entropy"),
}

if __name__ == "__main__":
    setting, model, file, target = sys.argv[1:]
    SETTINGS[setting](model, np.load(file), target)
