from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepose.calibration.qdq import insert_qdq, quantisable_layers, quantised_inputs
from tests.calibration.graphs import GraphMaker, mobile_network, pose_network, prepare, run, toy_crops


@pytest.fixture(params=[pose_network, mobile_network], ids=["pose", "mobile"])
def prepared(request) -> onnx.ModelProto:
    return prepare(request.param())


def quantise(prepared: onnx.ModelProto, magnitude: float = 4.0) -> onnx.ModelProto:
    layers = quantisable_layers(prepared)
    return insert_qdq(prepared, dict.fromkeys(quantised_inputs(prepared, layers), magnitude), layers)


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def is_depthwise(node: onnx.NodeProto) -> bool:
    return any(item.name == "group" and item.i > 1 for item in node.attribute)


def test_every_convolution_but_the_head_and_depthwise_ones_reads_int8_data_and_int8_weights(prepared):
    quantised = quantise(prepared)

    made_by = producers(quantised)
    for node in quantised.graph.node:
        if node.op_type == "Conv":
            sources = [made_by.get(name) for name in node.input[:2]]
            while sources[0] is not None and sources[0].op_type in ("MaxPool", "DepthToSpace", "Slice"):
                sources[0] = made_by[sources[0].input[0]]
            quantises = [source is not None and source.op_type == "DequantizeLinear" for source in sources]
            assert quantises == [node.output[0] != "heatmaps" and not is_depthwise(node)] * 2


def test_no_pair_stands_between_a_convolution_and_its_activation(prepared):
    quantised = quantise(prepared)

    made_by = producers(quantised)
    activations = [node for node in quantised.graph.node if node.op_type in ("Relu", "Clip")]
    assert activations
    assert all(made_by[node.input[0]].op_type in ("Conv", "Add") for node in activations)


def quantised_terms(quantised: onnx.ModelProto) -> dict[str, list[bool]]:
    """Which inputs of each addition are read in INT8, through a pooling or Resize too."""
    made_by = producers(quantised)

    def is_int8(name: str) -> bool:
        while made_by[name].op_type in ("MaxPool", "Resize"):
            name = made_by[name].input[0]
        return made_by[name].op_type == "DequantizeLinear"

    additions = [node for node in quantised.graph.node if node.op_type == "Add"]
    return {node.output[0]: [is_int8(name) for name in node.input] for node in additions}


def test_a_residual_addition_reads_its_skip_in_int8_and_its_convolution_as_it_is(prepared):
    quantised = quantise(prepared)

    (terms,) = quantised_terms(quantised).values()
    (addition,) = [node for node in prepared.graph.node if node.op_type == "Add"]
    made_by = producers(prepared)
    read = [name for node in prepared.graph.node for name in node.input]
    assert terms == [not (made_by[name].op_type == "Conv" and read.count(name) == 1) for name in addition.input]
    assert sorted(terms) == [False, True]


def branches() -> GraphMaker:
    """Two convolutions of one map, `left` and `right`, and a third, `up`, enlarged by a nearest Resize: `wide`."""
    g = GraphMaker()
    for name in ("left", "right"):
        g.conv("crops", name, (8, 3, 3, 3), pads=[1] * 4)
    g.conv("crops", "up", (8, 3, 3, 3), pads=[1] * 4, strides=[2, 2])
    scales = g.weight("scales", np.array([1, 1, 2, 2]))
    g.node("Resize", ["up", "", scales], "wide", mode="nearest")
    return g


@pytest.mark.parametrize(
    ("additions", "expected"),
    [
        ([("sum", "left", "right")], {"sum": [False, True]}),  # a downsampling block
        ([("sum", "left", "wide")], {"sum": [False, True]}),
        # the convolution behind the Resize cannot take the addition in, and the sum before it stays in one kernel
        ([("part", "left", "right"), ("sum", "part", "wide")], {"part": [False, True], "sum": [False, True]}),
        ([("part", "left", "wide"), ("sum", "part", "right")], {"part": [False, True], "sum": [True, False]}),
        ([("sum", "left", "left")], {"sum": [True, True]}),  # read twice: no one addition's own
    ],
)
def test_of_several_convolutions_that_are_added_one_is_left_to_take_the_addition_in(additions, expected):
    g = branches()
    for name, *terms in additions:
        g.node("Add", terms, name)
    relu = g.node("Relu", ["sum"], "sum_relu")
    g.conv(relu, "heatmaps", (2, 8, 1, 1))

    quantised = quantise(prepare(g.model(["n", 3, 64, 48], "heatmaps")))

    assert quantised_terms(quantised) == expected


def test_a_tensor_has_one_pair_whoever_reads_it():
    quantised = quantise(prepare(pose_network()))

    pairs = [node.input[0] for node in quantised.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) == len(set(pairs))
    assert "stem_relu" in pairs  # read through the pooling by the first convolution and by the addition
    assert "pool" not in pairs


def test_quantisation_is_symmetric_with_one_step_for_data_and_one_per_output_channel_for_weights(prepared):
    quantised = quantise(prepared)

    values = weights(quantised)
    for node in quantised.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            step, zero = values[node.input[1]], values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            if node.input[0] in values:
                stored = values[node.input[0]]
                assert stored.dtype == np.int8
                assert np.abs(stored.astype(int)).max() == 127  # -128 has no counterpart
                assert step.shape == (len(stored),)
                assert [item.i for item in node.attribute if item.name == "axis"] == [0]
            else:
                assert step.shape == ()


def test_biases_stay_float(prepared):
    quantised = quantise(prepared)

    values = weights(quantised)
    biases = [values[node.input[2]] for node in quantised.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    assert biases
    assert all(bias.dtype == np.float32 for bias in biases)


def test_steps_are_numbers_that_fp16_holds_exactly(prepared):
    quantised = quantise(prepared, magnitude=np.pi)

    steps = [weights(quantised)[node.input[1]] for node in quantised.graph.node if node.op_type == "QuantizeLinear"]
    assert all(step == step.astype(np.float16) for step in steps)


def test_a_layer_left_out_keeps_float_weights_and_reads_float_data():
    prepared = prepare(pose_network())
    layers = [name for name in quantisable_layers(prepared) if name != "second_bn"]

    quantised = insert_qdq(prepared, dict.fromkeys(quantised_inputs(prepared, layers), 4.0), layers)

    node = producers(quantised)["second_bn"]
    assert node.input[0] == "first_relu"
    assert node.input[1] in weights(quantised)


def test_values_come_close_to_fp32(prepared):
    crops = toy_crops()
    layers = quantisable_layers(prepared)
    tensors = [name for name in quantised_inputs(prepared, layers) if name != "crops"]
    seen = dict(zip(tensors, run(prepared, crops, tensors), strict=True)) | {"crops": crops}
    ranges = {name: float(np.abs(value).max()) for name, value in seen.items()}

    found = run(insert_qdq(prepared, ranges, layers), crops)[0]

    wanted = run(prepared, crops)[0]
    error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < 0.05  # a step of 1/127 of the range in each of a handful of layers


def test_no_range_is_a_mistake_of_the_caller():
    prepared = prepare(pose_network())

    with pytest.raises(KeyError):
        insert_qdq(prepared, {}, quantisable_layers(prepared))


def test_convolutions_that_only_enlarge_heat_maps_stay_float_with_the_head():
    g = GraphMaker()
    x = g.node("Relu", [g.conv("crops", "stem", (8, 3, 3, 3), strides=[8, 8], pads=[1] * 4)], "stem_relu")
    x = g.node("Relu", [g.conv(x, "features", (8, 8, 3, 3), pads=[1] * 4)], "features_relu")
    x = g.conv(x, "small", (2, 8, 1, 1))
    g.conv(x, "heatmaps", (2, 2, 4, 4), "ConvTranspose", strides=[2, 2], pads=[1] * 4)
    prepared = prepare(g.model(["n", 3, 64, 48], "heatmaps"))

    assert quantisable_layers(prepared) == ["stem", "features"]


def token_network(final: str) -> onnx.ModelProto:
    """A convolution, tokens through two products with a sum around them, and `final`: heat maps or a SimCC vector."""
    g = GraphMaker()
    x = g.conv("crops", "patches", (8, 3, 8, 8), strides=[8, 8])  # (n, 8, 8, 6)
    flat = g.node("Reshape", [x, g.int64("to_rows", [-1, 8, 48])], "rows")
    tokens = g.node("Transpose", [flat], "tokens", perm=[0, 2, 1])
    inner = g.node("MatMul", [tokens, g.weight("inner.weight", g.rng.normal(0, 0.3, (8, 12)))], "inner")
    attention = g.node("MatMul", [inner, g.node("Transpose", [inner], "keys", perm=[0, 2, 1])], "attention")
    mixed = g.node("MatMul", [g.node("Softmax", [attention], "shares"), inner], "mixed")
    outer = g.node("MatMul", [mixed, g.weight("outer.weight", g.rng.normal(0, 0.3, (12, 8)))], "outer")
    x = g.node("Add", [tokens, outer], "sum")
    maps = g.node("Transpose", [x], "back", perm=[0, 2, 1])
    maps = g.node("Reshape", [maps, g.int64("to_maps", [-1, 8, 8, 6])], "maps")
    if final == "heatmaps":
        g.conv(maps, "heatmaps", (2, 8, 1, 1))
        return g.model(["n", 3, 64, 48], "heatmaps")
    points = g.node("Reshape", [g.conv(maps, "points", (2, 8, 1, 1)), g.int64("to_points", [-1, 2, 48])], "point_rows")
    token = g.node("MatMul", [points, g.weight("token.weight", g.rng.normal(0, 0.3, (48, 8)))], "token")
    g.node("MatMul", [token, g.weight("bins.weight", g.rng.normal(0, 0.3, (8, 96)))], "simcc_x")
    return g.model(["n", 3, 64, 48], "simcc_x", output_rank=3)


def test_products_with_constant_weights_are_layers_and_others_are_not():
    prepared = prepare(token_network("heatmaps"))

    layers = quantisable_layers(prepared)

    assert layers == ["patches", "inner", "outer"]
    assert sorted(quantised_inputs(prepared, layers)) == ["crops", "mixed", "tokens"]  # no sum between tokens


def test_a_products_weights_have_a_step_for_each_output():
    prepared = prepare(token_network("heatmaps"))

    quantised = quantise(prepared)

    stored, source = weights(quantised), producers(quantised)["inner.weight.dq"]
    assert {item.name: item.i for item in source.attribute} == {"axis": 1}
    assert stored["inner.weight.step"].shape == (12,)
    restored = stored["inner.weight.int8"] * stored["inner.weight.step"]
    assert np.abs(restored - weights(prepared)["inner.weight"]).max() <= stored["inner.weight.step"].max() / 2


def test_a_gemms_weights_are_quantised_along_its_own_output():
    g = GraphMaker()
    x = g.conv("crops", "patches", (8, 3, 64, 48))
    x = g.node("Reshape", [x, g.int64("to_row", [-1, 8])], "row")
    weight, bias = g.weight("gemm.weight", g.rng.normal(0, 1, (5, 8))), g.weight("gemm.bias", np.ones(5))
    x = g.node("Gemm", [x, weight, bias], "gemm", transB=1)
    x = g.node("Reshape", [x, g.int64("to_map", [-1, 5, 1, 1])], "map")
    g.conv(x, "heatmaps", (2, 5, 1, 1))
    prepared = prepare(g.model(["n", 3, 64, 48], "heatmaps"))

    quantised = quantise(prepared)

    assert quantisable_layers(prepared) == ["patches", "gemm"]
    assert weights(quantised)["gemm.weight.step"].shape == (5,)
    crops = toy_crops()
    wanted, found = run(prepared, crops, ["gemm"])[0], run(quantised, crops, ["gemm"])[0]
    assert found.shape == wanted.shape


def test_the_head_of_simcc_stays_float_from_the_key_points_maps_on():
    layers = quantisable_layers(prepare(token_network("simcc")))

    assert layers == ["patches", "inner", "outer"]  # not points, token, simcc_x


def yolo_network() -> onnx.ModelProto:
    """A trunk, then YOLO's head: distances as distributions that a fixed convolution adds up, beside other maps."""
    g = GraphMaker()
    trunk = g.node("Relu", [g.conv("crops", "trunk", (8, 3, 8, 8), strides=[8, 8])], "trunk_relu")  # (n, 8, 8, 6)
    shared = g.node("Relu", [g.conv(trunk, "shared", (8, 8, 1, 1))], "shared_relu")
    bins = g.node("Reshape", [g.conv(shared, "bins", (64, 8, 1, 1)), g.int64("to_bins", [-1, 4, 16, 48])], "by_side")
    shares = g.node("Softmax", [g.node("Transpose", [bins], "turned", perm=[0, 2, 1, 3])], "shares", axis=1)
    distances = g.node("Conv", [shares, g.weight("dfl", np.arange(16.0).reshape(1, 16, 1, 1))], "adds_up")
    distances = g.node("Reshape", [distances, g.int64("to_rows", [-1, 4, 48])], "distances")
    rest = g.node("Reshape", [g.conv(shared, "rest", (52, 8, 1, 1)), g.int64("to_rest", [-1, 52, 48])], "other")
    g.node("Concat", [distances, g.node("Sigmoid", [rest], "scores")], "output", axis=1)
    return g.model(["n", 3, 64, 48], "output", output_rank=3)


def test_the_convolutions_behind_a_distribution_are_yolos_head_too():
    assert quantisable_layers(prepare(yolo_network())) == ["trunk", "shared"]  # not bins, adds_up, rest


def test_of_queries_the_last_products_alone_are_the_head():
    g = GraphMaker()
    x = g.conv("crops", "patches", (8, 3, 8, 8), strides=[8, 8])
    tokens = g.node("Transpose", [g.node("Reshape", [x, g.int64("s", [-1, 8, 48])], "rows")], "tokens", perm=[0, 2, 1])
    inner = g.node("MatMul", [tokens, g.weight("inner.weight", g.rng.normal(0, 0.3, (8, 12)))], "inner")
    g.node("MatMul", [inner, g.weight("points.weight", g.rng.normal(0, 0.3, (12, 51)))], "keypoints")

    layers = quantisable_layers(prepare(g.model(["n", 3, 64, 48], "keypoints", output_rank=3)))

    assert layers == ["patches", "inner"]


def staged_network() -> onnx.ModelProto:
    """Two stages that each make 5 heat maps and 6 fields; the second reads those of the first."""
    maker = GraphMaker()
    features = maker.node("Relu", [maker.conv("crops", "trunk", (16, 3, 3, 3), pads=[1] * 4)], "features")
    maps = features
    channels = 16
    for stage in (1, 2):
        outputs = []
        for branch, count in (("heat", 5), ("field", 6)):
            name = f"{branch}{stage}"
            x = maker.node("Relu", [maker.conv(maps, f"{name}_first", (16, channels, 1, 1))], f"{name}_relu")
            x = maker.node("Relu", [maker.conv(x, f"{name}_hidden", (8, 16, 1, 1))], f"{name}_hidden_relu")
            x = maker.conv(x, f"{name}_depthwise", (8, 1, 3, 3), pads=[1] * 4, group=8)
            outputs.append(maker.conv(x, f"{name}_maps", (count, 8, 1, 1)))
        maps = maker.node("Concat", [*([features] if stage == 1 else []), *outputs], f"stage{stage}", axis=1)
        channels = 27
    return maker.model(["n", 3, 16, 16], "stage2")


def test_the_maps_of_every_stage_and_what_they_are_made_of_stay_in_float_where_told():
    model = staged_network()

    assert set(quantisable_layers(model)) == {
        "trunk",
        *(f"{name}_{part}" for name in ("heat1", "heat2", "field1", "field2") for part in ("first", "hidden")),
        *("heat1_maps", "field1_maps"),
    }
    firsts = ["heat1_first", "heat2_first", "field1_first", "field2_first"]
    assert set(quantisable_layers(model, (5, 6))) == {"trunk", *firsts}
