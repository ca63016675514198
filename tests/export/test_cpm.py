import numpy as np
import pytest
import torch

from edgepose.export.networks.cpm import CPM
from tests.export.families import counts, forward, graph_of, operators, relative_difference, without_prefixes
from tests.export.golden import golden_heatmaps, golden_state
from tests.shared_data import needs_shared


@needs_shared
def test_computes_what_the_published_implementation_does():
    network = CPM(17)
    network.load_state_dict(without_prefixes(golden_state("mm_cpm")))
    crops, expected = golden_heatmaps("mm_cpm")

    heatmaps = forward(network, crops)

    assert relative_difference(heatmaps, expected) < 1e-5


@pytest.mark.parametrize(("num_keypoints", "parameters"), [(17, 31_304_166), (16, 31_225_568)])
def test_published_sizes(num_keypoints, parameters):
    with torch.device("meta"):
        assert counts(CPM(num_keypoints)) == (216, 182, parameters)


@pytest.mark.parametrize("input_hw", [(256, 192), (384, 288), (368, 368)])
def test_heatmaps_are_an_eighth_of_the_input(input_hw):
    with torch.device("meta"):
        heatmaps = CPM(17)(torch.empty(1, 3, *input_hw))

    assert heatmaps.shape == (1, 17, input_hw[0] // 8, input_hw[1] // 8)


def test_graph_has_no_shapes_in_it_and_takes_any_batch():
    graph = graph_of(CPM(2), (64, 48), stride=8)

    assert operators(graph) <= {"Conv", "Relu", "MaxPool", "Concat"}
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_people_of_a_batch_do_not_see_each_other():
    network = CPM(2)
    crops = np.random.default_rng(0).standard_normal((2, 3, 32, 24)).astype(np.float32)

    heatmaps = forward(network, crops)

    assert np.allclose(heatmaps[1:], forward(network, crops[1:]), atol=1e-6)
