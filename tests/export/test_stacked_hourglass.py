import numpy as np
import pytest
import torch

from edgepose.export.networks import hourglass52
from edgepose.export.networks.hourglass52 import Hourglass52
from edgepose.export.networks.stacked_hourglass import BearpawHourglass, PrincetonHourglass
from tests.export.families import (
    counts,
    forward,
    graph_of,
    operators,
    relative_difference,
    values_stored,
    without_prefixes,
)
from tests.export.golden import golden_heatmaps, golden_state
from tests.shared_data import needs_shared


@needs_shared
@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("mm_hourglass52", lambda: Hourglass52(17)),
        ("bp_hg2", lambda: BearpawHourglass(2, 16)),
        ("hgp_2", lambda: PrincetonHourglass(2, 16)),
    ],
)
def test_computes_what_the_published_implementation_does(name, build):
    network = build()
    network.load_state_dict(without_prefixes(golden_state(name)))
    _, expected = golden_heatmaps(name)
    crops = np.random.default_rng(0).standard_normal((1, 3, 256, 256)).astype(np.float32)

    heatmaps = forward(network, crops)

    assert relative_difference(heatmaps, expected) < 1e-5


@pytest.mark.parametrize(
    ("network", "stacks", "entries", "without_counters", "parameters"),
    [
        (BearpawHourglass, 1, 377, 324, 3_586_960),
        (BearpawHourglass, 2, 684, 588, 6_730_912),
        (BearpawHourglass, 8, 2526, 2172, 25_594_624),
        (PrincetonHourglass, 2, 742, 646, 8_429_088),
        (PrincetonHourglass, 8, 2752, 2398, 32_819_328),
    ],
)
def test_published_stacks(network, stacks, entries, without_counters, parameters):
    with torch.device("meta"):
        assert counts(network(stacks, 16)) == (entries, without_counters, parameters)


def test_hourglass52_is_the_published_backbone_and_a_head():
    with torch.device("meta"):
        entries, without_counters, parameters = counts(Hourglass52(17))

    head = 17 * 256 + 17
    assert (entries - 2, without_counters - 2, parameters - head) == (492, 410, 94_843_520)


@pytest.mark.parametrize(
    ("build", "input_hw"),
    [
        (lambda: BearpawHourglass(1, 2), (64, 64)),
        (lambda: PrincetonHourglass(2, 2), (64, 128)),
        (lambda: Hourglass52(2), (128, 128)),
    ],
    ids=["bearpaw", "princeton", "hourglass52"],
)
def test_graph_has_no_shapes_and_no_unused_weights_in_it(build, input_hw, monkeypatch):
    monkeypatch.setattr(hourglass52, "CHANNELS", (8, 8, 16, 16, 16, 24))
    network = build()
    network.eval()(torch.zeros(1, 3, *input_hw)).sum().backward()
    used = sum(parameter.numel() for parameter in network.parameters() if parameter.grad is not None)
    unused = sum(parameter.numel() for parameter in network.parameters() if parameter.grad is None)

    graph = graph_of(network, input_hw)

    assert operators(graph) <= {"Conv", "Relu", "Add", "Resize", "Constant", "MaxPool", "BatchNormalization"}
    assert values_stored(graph) < used + unused / 2  # BatchNorm's statistics are few


def test_every_stack_works_on_the_result_of_the_one_before():
    network = BearpawHourglass(2, 3)
    crops = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    before = forward(network, crops)

    with torch.no_grad():
        network.score_[0].bias += 1.0  # where the first stack's heat maps enter the second

    assert not np.allclose(before, forward(network, crops))
