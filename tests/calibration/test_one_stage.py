"""Networks that give whole people, from FP32 to INT8 and through NVIDIA's builder, which needs no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepose.backends import load_runtime
from edgepose.calibration.whole_images import CalibratedPictures, calibrate_pictures
from edgepose.files import sha256_of
from edgepose.io.images import write_image
from edgepose.model.computes import LEAST_SHARE
from edgepose.model.heads.people import People
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.spec import Input, ModelSpec
from tests.calibration.graphs import GraphMaker
from tests.makers import TWO_POINTS, smooth_image

INPUT = Input((64, 64), "rgb", (0.0,) * 3, (255.0,) * 3, "letterbox")
CELLS = {8: 64, 16: 16}  # stride -> cells of an input of 64x64
CANDIDATES = sum(CELLS.values())
PARTS = {"score": 1, "box": 4, "points": 6}  # channels of each branch
HEADS = {
    "yolo": People("yolo", min_score=0.0, nms_iou=0.7, candidates=CANDIDATES),
    "dets": People("dets", min_score=0.0, candidates=CANDIDATES),
}


def drawn_network(layout: str) -> onnx.ModelProto:
    """A trunk of two scales, three branches on each, and the arithmetic that makes px of what they give."""
    g = GraphMaker()
    g.conv("images", "stem", (16, 3, 3, 3), strides=[4, 4], pads=[1] * 4)
    scales = {8: swish(g, "stem_of_8", swish(g, "stem"), 2), 16: ""}
    scales[16] = swish(g, "stem_of_16", scales[8], 2)
    found: dict[str, list[str]] = {name: [] for name in PARTS}
    for stride, trunk in scales.items():
        for name, channels in PARTS.items():
            inner = swish(g, f"{name}_{stride}_inner", trunk)
            g.conv(inner, f"{name}_{stride}", (channels, 16, 1, 1))
            shape = g.int64(f"{name}_{stride}_shape", [0, channels, -1])
            found[name].append(g.node("Reshape", [f"{name}_{stride}", shape], f"{name}_{stride}_row"))
    joined = {name: g.node("Concat", rows, f"{name}_raw", axis=2) for name, rows in found.items()}
    px = g.weight("px", np.float32(8))
    score = g.node("Sigmoid", [joined["score"]], "score")
    place = g.weight("place", np.float32(32))
    boxes = g.node("Add", [g.node("Mul", [joined["box"], px], "box_px"), place], "boxes")
    points = g.node("Add", [g.node("Mul", [joined["points"], px], "points_px"), place], "points_at")
    return finished(g, layout, score, boxes, points)


def swish(g: GraphMaker, name: str, source: str = "", stride: int = 0) -> str:
    """The activation of a layer; with a `source` a convolution of 16 channels before it."""
    if source:
        g.conv(source, name, (16, 16, 3, 3), strides=[stride or 1] * 2, pads=[1] * 4)
    return g.node("Mul", [name, g.node("Sigmoid", [name], f"{name}_gate")], f"{name}_swish")


def finished(g: GraphMaker, layout: str, score: str, boxes: str, points: str) -> onnx.ModelProto:
    """The outputs of a layout, (n, channels, candidates) each before."""
    spec = spec_of(layout)
    if layout == "yolo":
        g.node("Concat", [boxes, score, points], "output", axis=1)
    else:
        both = g.node("Concat", [boxes, score], "both", axis=1)
        g.node("Transpose", [both], "dets", perm=[0, 2, 1])
        rows = g.node("Transpose", [points], "points_rows", perm=[0, 2, 1])
        g.node("Reshape", [rows, g.int64("points_shape", [0, 0, 2, 3])], "keypoints")
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in named.items()]
        for named in (spec.inputs, spec.outputs)
    ]
    graph = helper.make_graph(g.nodes, "drawn", *ports, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def spec_of(layout: str) -> ModelSpec:
    return ModelSpec(f"drawn_{layout}", INPUT, HEADS[layout], TWO_POINTS)


@pytest.fixture(scope="module", params=list(HEADS))
def calibrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CalibratedPictures:
    folder = tmp_path_factory.mktemp(request.param)
    for seed in range(4):
        write_image(folder / f"{seed}.png", smooth_image(seed=seed))
    path = folder / "drawn.onnx"
    onnx.save(drawn_network(request.param), path)
    write_passport(path, Passport(spec_of(request.param), "fp32", sha256_of(path), "random"))
    return calibrate_pictures(path, [folder / "*.png"], method="minmax")


def fp32_of(calibrated: CalibratedPictures) -> Path:
    return calibrated.int8.with_name("drawn.onnx")


def test_all_but_the_last_layer_of_each_branch_is_int8(calibrated: CalibratedPictures) -> None:
    last = {f"{name}_{stride}" for name in PARTS for stride in CELLS}

    assert set(calibrated.layers) == {"stem", "stem_of_8", "stem_of_16", *(f"{name}_inner" for name in last)}


def test_nvidias_builder_computes_them_in_int8(calibrated: CalibratedPictures) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    from edgepose.trt.build import build_engine
    from edgepose.trt.options import BuildOptions

    options = BuildOptions(max_batch=2, targets=("sm_86",), kernels=False)
    plan = build_engine(calibrated.int8, options=options, runtime=trt.__name__).plan

    computes = read_passport(plan).plan.computes
    assert computes is not None
    assert calibrated.int8_share is not None
    assert computes.meant["INT8"] >= LEAST_SHARE
    assert computes.shares["INT8"] == pytest.approx(calibrated.int8_share, abs=0.01)
    assert not computes.fell_back


def test_int8_gives_about_what_fp32_gives(calibrated: CalibratedPictures) -> None:
    images = np.stack([smooth_image(64, 64, seed).transpose(2, 0, 1) for seed in range(2)]).astype(np.float32) / 255
    found, wanted = (load_runtime(path).run({"images": images}) for path in (calibrated.int8, fp32_of(calibrated)))

    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert np.abs(found[name] - values).mean() < 0.05 * np.abs(values).max(), (
            name
        )  # random weights: near, not close
