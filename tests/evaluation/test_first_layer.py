"""The first layer that differs, found on a stand-in device with layers made wrong on purpose. Not run on a GPU."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgepose.evaluation.verify import verify_plan
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, read_passport, write_passport
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import TOY_WEIGHTS, dots_image, dots_spec, write_toy_model
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import bottom_up_network

pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
pytestmark = needs_nvcc
SPEC = dots_spec()
PICTURES = [(dots_image((8, 20), (28, 40)), np.array([[0, 0, 48, 64]], np.float32))]


def write_named(path, batch="N"):
    """Five layers; each one's output bears its name, but for the last one's: the layer is `head`."""
    from onnx import TensorProto, helper, numpy_helper

    (height, width), (map_height, map_width) = SPEC.image.size_hw, SPEC.heatmaps.size_hw
    identity, mix = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), TOY_WEIGHTS.reshape(2, 3, 1, 1)
    nodes = [
        helper.make_node("AveragePool", ["crops"], ["pool"], "pool", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["pool", "identity"], ["stem"], "stem"),
        helper.make_node("Relu", ["stem"], ["stem_relu"], "stem_relu"),
        helper.make_node("Conv", ["stem_relu", "again"], ["body"], "body"),
        helper.make_node("Conv", ["body", "mix"], ["heatmaps"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "named",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, 2, map_height, map_width])],
        [numpy_helper.from_array(*each) for each in ((identity, "identity"), (identity, "again"), (mix, "mix"))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    write_passport(path, Passport(SPEC, "fp32", sha256_of(path), "toy"))
    return path


@pytest.mark.parametrize(
    ("tensor", "layer", "batch"), [("stem", "stem", "N"), ("body", "body", 2), ("heatmaps", "head", "N")]
)
def test_the_layer_with_a_wrong_scale_is_named_by_its_name_in_the_onnx(tmp_path, tensor, layer, batch):
    source, said = write_named(tmp_path / "m.onnx", batch), list[str]()
    with fake_device() as gpu:
        gpu.wrong_layers = {tensor: 1.25}
        plan = write_plan_of(source, tmp_path / "m.plan", SPEC, max_batch=2, wrong=gpu.wrong_layers)

        check, passport = verify_plan(plan, PICTURES, repeats=1, tell=said.append)

        assert gpu.problems == []
    assert check.fault == "network"
    assert re.search(f"the first that differs is {layer}: its output {tensor} by 2.5e-01 of its rms", check.verdict)
    assert passport.plan.verdict is not None
    assert passport.plan.verdict.text == check.verdict
    assert len(said) == 1


def test_the_layer_of_a_bottom_up_network_is_named_too(tmp_path):
    source, spec = bottom_up_network(tmp_path / "m.onnx", "tags")
    with fake_device() as gpu:
        gpu.wrong_layers = {"tags": 1.25}
        plan = write_plan_of(source, tmp_path / "m.plan", spec, max_batch=2, wrong=gpu.wrong_layers)

        check, _ = verify_plan(plan, PICTURES, repeats=1, tell=[].append)

        assert gpu.problems == []
    assert check.verdict.startswith("WRONG: network: tags of 2 pictures: differ by 2.5e-01 of their rms")
    assert re.search("the first that differs is .*: its output tags by 2.5e-01 of its rms", check.verdict)


def test_all_rows_of_a_fixed_batch_are_crops(tmp_path):
    from edgepose.backends.openvino_values import exact_values

    source = write_named(tmp_path / "m.onnx", 3)
    crops = np.random.default_rng(0).random((2, 3, *SPEC.image.size_hw), np.float32)
    (exact,) = exact_values(source, [crops])
    with fake_device() as gpu:
        from edgepose.trt.values import layer_values

        plan = write_plan_of(source, tmp_path / "m.plan", SPEC, max_batch=3)

        found = layer_values(source, read_passport(plan), crops, exact)

        assert gpu.problems == []
    assert [each.tensor for each in found] == ["pool", "stem", "stem_relu", "body", "heatmaps"]
    for each in found:
        np.testing.assert_allclose(each.values, exact[each.tensor], rtol=1e-5, atol=1e-6)


def test_a_wrong_step_of_int8_shows_at_the_layer_that_reads_it(tmp_path):
    source = write_toy_model(tmp_path / "m.onnx", SPEC, precision="int8")
    with fake_device() as gpu:
        gpu.wrong_layers = {"dq": 1.25}
        plan = write_plan_of(source, tmp_path / "m.plan", SPEC, max_batch=2, wrong=gpu.wrong_layers)

        check, _ = verify_plan(plan, PICTURES, repeats=1)

    assert "its output heatmaps by 2.5e-01 of its rms" in check.layer


def test_layers_that_are_right_one_by_one_leave_what_is_fused(tmp_path):
    with fake_device():
        plan = write_plan_of(write_named(tmp_path / "m.onnx"), tmp_path / "m.plan", SPEC, wrong={"body": 1.25})

        check, _ = verify_plan(plan, PICTURES, repeats=1)

    assert "none of 5 layers differs: so it is what TensorRT fuses" in check.verdict


def test_a_right_plan_is_not_built_again(tmp_path):
    with fake_device():
        plan = write_plan_of(write_named(tmp_path / "m.onnx"), tmp_path / "m.plan", SPEC)

        check, _ = verify_plan(plan, PICTURES, repeats=1, tell=pytest.fail)

    assert (check.fault, check.layer) == ("", "")


def test_where_it_cannot_be_built_again_the_comparison_stands(tmp_path, monkeypatch):
    with fake_device():
        plan = write_plan_of(write_named(tmp_path / "m.onnx"), tmp_path / "m.plan", SPEC, scale=1.25)
        monkeypatch.setattr("tensorrt.Builder.build_serialized_network", lambda *_: None)

        check, _ = verify_plan(plan, PICTURES, repeats=1)

    assert check.fault == "network"
    assert "the first layer that differs was not found: TensorRT could not build" in check.verdict
    assert read_passport(plan).plan.verdict is not None


def test_a_value_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    with fake_device() as gpu:
        gpu.wrong_layers = {"body": 1.25}
        plan = write_plan_of(write_named(tmp_path / "m.onnx"), tmp_path / "m.plan", SPEC, wrong=gpu.wrong_layers)
        import edgepose.trt.debug

        monkeypatch.setattr(edgepose.trt.debug, "_pointer_of", lambda *_: 8)

        check, _ = verify_plan(plan, PICTURES, repeats=1)

    assert "the first layer that differs was not found: a value inside" in check.verdict
