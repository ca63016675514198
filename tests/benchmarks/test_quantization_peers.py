from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepose.benchmarks.quantization_peers import peer_files
from edgepose.calibration.dataset import CalibrationImage
from edgepose.files import sha256_of, write_bytes
from edgepose.passport import Passport, read_passport, write_passport
from edgepose.report import jpeg
from tests.makers import make_spec, smooth_image


def test_peers_are_int8_files_and_the_careful_form_leaves_depthwise_layers_and_head_as_they_are(tmp_path):
    model = _three_layers(tmp_path / "m.onnx")
    picture = tmp_path / "a.jpg"
    write_bytes(picture, jpeg(smooth_image()))
    image = CalibrationImage(picture, sha256_of(picture), np.array([[10, 10, 90, 110]], np.float32))

    everything, part = peer_files(model, [image], tmp_path, ["minmax"])

    assert read_passport(everything).precision == "int8"
    assert _quantised_layers(everything) == 3
    assert _quantised_layers(part) == 1


def _three_layers(path):
    """A pointwise, a depthwise and a head convolution."""
    rng = np.random.default_rng(0)
    sizes = {"w1": (4, 3, 4, 4), "w2": (4, 1, 3, 3), "w3": (2, 4, 1, 1)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["crops", "w1"], ["a"], "first", strides=[4, 4]),
            helper.make_node("Conv", ["a", "w2"], ["b"], "depthwise", group=4, pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["b", "w3"], ["heatmaps"], "head"),
        ],
        "layers",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, 64, 48])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 2, 16, 12])],
        [numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name) for name, size in sizes.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    write_passport(path, Passport(make_spec(), "fp32", sha256_of(path), "by hand"))
    return path


def _quantised_layers(path) -> int:
    graph = onnx.load(path).graph
    maker = {output: node.op_type for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type == "Conv"]
    return sum(maker.get(layer.input[1]) == "DequantizeLinear" for layer in layers)
