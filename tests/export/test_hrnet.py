import pytest
import torch

from edgepose.export.networks.hrnet import HRNet
from tests.export.families import (
    counts,
    forward,
    graph_of,
    operators,
    relative_difference,
    without_prefixes,
)
from tests.export.golden import golden_heatmaps, golden_state
from tests.shared_data import needs_shared


@needs_shared
def test_computes_what_the_published_implementation_does():
    network = HRNet(32, 17)
    network.load_state_dict(golden_state("leo_hrnet_w32"))
    crops, expected = golden_heatmaps("leo_hrnet_w32")

    heatmaps = forward(network, crops)

    assert relative_difference(heatmaps, expected) < 1e-5


@needs_shared
def test_has_the_published_names_in_their_order():
    with torch.device("meta"):
        ours = {key: tuple(tensor.shape) for key, tensor in HRNet(32, 17).state_dict().items()}

    published = golden_state("leo_hrnet_w32")
    assert list(ours.items()) == [(key, tuple(tensor.shape)) for key, tensor in published.items()]
    assert without_prefixes(golden_state("mm_hrnet_w32")).keys() == ours.keys()


@pytest.mark.parametrize(("width", "parameters"), [(32, 28_536_113), (48, 63_595_745)])
def test_published_sizes(width, parameters):
    with torch.device("meta"):
        assert counts(HRNet(width, 17)) == (1754, 1462, parameters)


def test_a_head_of_three_channels_a_key_point():
    with torch.device("meta"):
        assert HRNet(32, 51)(torch.empty(2, 3, 256, 192)).shape == (2, 51, 64, 48)


def test_graph_enlarges_by_constant_factors_and_has_no_shapes_in_it():
    graph = graph_of(HRNet(8, 2), (64, 64))

    assert operators(graph) <= {"Conv", "Relu", "Add", "Resize", "Constant"}
