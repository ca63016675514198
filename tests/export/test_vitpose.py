from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgepose.export.graph.simplify import simplify
from edgepose.export.networks.vitpose import ViTPose
from edgepose.export.to_onnx import to_onnx
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import heatmap_spec
from tests.export.families import counts, forward, relative_difference
from tests.export.golden import golden_heatmaps, golden_state
from tests.shared_data import needs_shared


def state_of(name: str) -> dict[str, torch.Tensor]:
    prefixes = ("backbone.", "keypoint_head.")
    return {key.removeprefix(prefixes[0]).removeprefix(prefixes[1]): v for key, v in golden_state(name).items()}


@needs_shared
def test_computes_what_the_published_implementation_does():
    network = ViTPose("s", 17)
    network.load_state_dict(state_of("vitpose_s"))
    crops, expected = golden_heatmaps("vitpose_s")

    assert relative_difference(forward(network, crops), expected) < 1e-4


@needs_shared
def test_trunk_and_last_layer_of_the_simple_decoder_compute_what_is_stored():
    network = ViTPose("s", 17, simple=True).eval()
    network.load_state_dict(state_of("vitpose_s_simple"))
    crops, expected = golden_heatmaps("vitpose_s_simple")

    # The stored maps were enlarged before the ReLU. ViTPose's own head (`_transform_inputs`), mmpose v1's
    # `FeatureMapProcessor` and transformers' `VitPoseSimpleDecoder` do it after; so does the network.
    with torch.inference_mode():
        maps = network.features(torch.from_numpy(crops))
        large = functional.interpolate(maps, scale_factor=4.0, mode="bilinear", align_corners=False)
        heatmaps = network.final_layer(torch.relu(large)).numpy()

    assert relative_difference(heatmaps, expected) < 1e-4


def test_the_simple_decoder_enlarges_after_the_relu():
    network = ViTPose("s", 2, (32, 32), simple=True).eval()
    network.blocks = network.blocks[:1]
    crops = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)

    with torch.inference_mode():
        maps = torch.relu(network.features(torch.from_numpy(crops)))
        large = functional.interpolate(maps, scale_factor=4.0, mode="bilinear", align_corners=False)
        expected = network.final_layer(large).numpy()

    assert relative_difference(forward(network, crops), expected) < 1e-6


@pytest.mark.parametrize(
    ("size", "simple", "parameters"),  # millions; transformers lists 0.02 B, 90 M, 0.3 B and 0.6 B of the classic
    [("s", False, 24.3), ("b", False, 90.0), ("b", True, 85.9), ("l", False, 308.5), ("h", False, 637.2)],
)
def test_published_numbers_of_parameters(size, simple, parameters):
    with torch.device("meta"):
        assert round(counts(ViTPose(size, 17, simple=simple))[2] / 1e6, 1) == parameters


@pytest.mark.parametrize("simple", [False, True])
def test_heatmaps_are_a_quarter_of_the_input(simple):
    with torch.device("meta"):
        heatmaps = ViTPose("s", 17, (384, 288), simple=simple).eval()(torch.empty(1, 3, 384, 288))

    assert heatmaps.shape == (1, 17, 96, 72)


def test_people_of_a_batch_do_not_see_each_other():
    network = ViTPose("s", 2, (32, 32))
    network.blocks = network.blocks[:2]
    crops = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)

    assert np.allclose(forward(network, crops)[1:], forward(network, crops[1:]), atol=1e-5)


def test_each_block_exports_one_attention_without_shapes_inside():
    network = ViTPose("s", 2, (32, 32)).eval()
    network.blocks = network.blocks[:2]
    spec = heatmap_spec("toy", (32, 32), (8, 8), Skeleton("two", ("a", "b"), ()))

    graph = simplify(to_onnx(network, spec)).graph

    producers = {name: node.op_type for node in graph.node for name in node.output}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    assert [(producers[node.input[0]], readers[node.output[0]]) for node in softmaxes] == [("MatMul", "MatMul")] * 2
    assert not {"Shape", "Gather", "Range", "Expand", "ConstantOfShape"} & {node.op_type for node in graph.node}
