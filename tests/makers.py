"""Small things to test with: specs, images, boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgepose.files import sha256_of
from edgepose.model.engine_info import EngineInfo, engine_from_json
from edgepose.model.passport import Passport, write_passport
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import ModelSpec, heatmap_spec

TWO_POINTS = Skeleton("two", ("left_hand", "right_hand"), flip_pairs=((0, 1),), limbs=((0, 1),), sigmas=(0.05, 0.05))


def make_spec(**changes: Any) -> ModelSpec:
    """A 64x48 input, 16x12 heat-map spec of two key points."""
    values: dict[str, Any] = {"name": "toy", "input_hw": (64, 48), "heatmap_hw": (16, 12), "skeleton": TWO_POINTS}
    return heatmap_spec(**{**values, **changes})


def engine_entry(**changes: Any) -> dict[str, Any]:
    """What a plan's passport says of a plan for an Orin, as JSON."""
    values: dict[str, Any] = {
        "runtime": "tensorrt",
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "targets": ["sm_87"],
        "max_batch": 8,
        "version_compatible": False,
        "dla": None,
        "kernels": {"file": "m.plan.fatbin", "sha256": "ab" * 32},
    }
    return {**values, **changes}


def make_engine(**changes: Any) -> EngineInfo:
    """The same as a value."""
    return engine_from_json(engine_entry(**changes))


def smooth_image(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 of smooth random colour."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def with_orientation(jpeg: bytes, orientation: int, order: Literal["little", "big"] = "big") -> bytes:
    """A JPEG file with EXIF that holds its orientation alone."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)

    tag = number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + bytes(2)  # one 16-bit number
    tiff = {"little": b"II", "big": b"MM"}[order] + number(42, 2) + number(8, 4) + number(1, 2) + tag + bytes(4)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


TOY_WEIGHTS = np.array([[1, 0, 0], [0, 0, 1]], np.float32)  # a red dot is a left hand, a blue one a right hand
TOY_STEP = 1 / 64  # of the INT8 model's activations


def dots_image(red_xy: tuple[int, int], blue_xy: tuple[int, int], height: int = 64, width: int = 48) -> np.ndarray:
    """(height, width, 3) uint8, black, with a red and a blue 4x4 square whose top left corners are given."""
    image = np.zeros((height, width, 3), np.uint8)
    for (x, y), channel in ((red_xy, 0), (blue_xy, 2)):
        image[y : y + 4, x : x + 4, channel] = 255
    return image


def dots_spec(**changes: Any) -> ModelSpec:
    """The spec of `write_toy_model`: crops of 0 to 1, a box's pixels are the crop's where the box is 48x64."""
    values: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0), "box_padding": 1.0}
    return make_spec(**{**values, **changes})


def toy_heatmaps(crops: np.ndarray, precision: str = "fp32") -> np.ndarray:
    """What `write_toy_model` computes, in numpy."""
    count, _, height, width = crops.shape
    pooled = crops.reshape(count, 3, height // 4, 4, width // 4, 4).mean(axis=(3, 5))
    if precision == "int8":
        pooled = np.clip(np.rint(pooled / TOY_STEP), -128, 127) * TOY_STEP
    return np.einsum("kc,nchw->nkhw", TOY_WEIGHTS, pooled).astype(np.float32)


def write_toy_model(
    path: Path,
    spec: ModelSpec | None = None,
    *,
    precision: str = "fp32",
    batch: int | str = "N",
    weights: str = "toy",
) -> Path:
    """Write a network that averages 4x4 pixels and mixes the channels, with its passport."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    spec = spec or dots_spec()
    (height, width), (map_height, map_width) = spec.image.size_hw, spec.heatmaps.size_hw
    kernel = TOY_WEIGHTS.reshape(2, 3, 1, 1)
    constants = {"w": kernel.astype(np.float16) if precision == "fp16" else kernel}
    nodes = [("AveragePool", ["crops"], ["pooled"], {"kernel_shape": [4, 4], "strides": [4, 4]})]
    if precision == "fp16":
        nodes.insert(0, ("Cast", ["crops"], ["half"], {"to": TensorProto.FLOAT16}))
        nodes[1] = ("AveragePool", ["half"], ["pooled"], nodes[1][3])
        nodes.append(("Conv", ["pooled", "w"], ["mixed"], {}))
        nodes.append(("Cast", ["mixed"], ["heatmaps"], {"to": TensorProto.FLOAT}))
    elif precision == "int8":
        constants |= {"step": np.float32(TOY_STEP), "zero": np.int8(0)}
        constants |= {"w": np.rint(kernel * 127).astype(np.int8)}
        constants |= {"w_step": np.full(2, 1 / 127, np.float32), "w_zero": np.zeros(2, np.int8)}
        nodes.append(("QuantizeLinear", ["pooled", "step", "zero"], ["q"], {}))
        nodes.append(("DequantizeLinear", ["q", "step", "zero"], ["dq"], {}))
        nodes.append(("DequantizeLinear", ["w", "w_step", "w_zero"], ["w_dq"], {"axis": 0}))
        nodes.append(("Conv", ["dq", "w_dq"], ["heatmaps"], {}))
    else:
        nodes.append(("Conv", ["pooled", "w"], ["heatmaps"], {}))
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, outputs, **attributes) for kind, inputs, outputs, attributes in nodes],
        "toy",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, 2, map_height, map_width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    write_passport(path, Passport(spec, precision, sha256_of(path), weights))
    return path
