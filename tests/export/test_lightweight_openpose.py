import pytest
import torch

from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from tests.export.families import counts, relative_difference
from tests.export.golden import golden_outputs, golden_state
from tests.shared_data import needs_shared


@needs_shared
def test_computes_what_the_published_implementation_does():
    network = LightweightOpenPose().eval()
    network.load_state_dict(golden_state("lw_openpose_1"))
    images, expected = golden_outputs("lw_openpose_1")

    with torch.inference_mode():
        heatmaps, fields = network(torch.from_numpy(images))

    assert relative_difference(heatmaps.numpy(), expected["heatmaps"]) < 1e-5
    assert relative_difference(fields.numpy(), expected["pafs"]) < 1e-5


@needs_shared
def test_has_the_published_names_in_their_order():
    with torch.device("meta"):
        ours = {key: tuple(tensor.shape) for key, tensor in LightweightOpenPose().state_dict().items()}

    published = golden_state("lw_openpose_1")
    assert list(ours.items()) == [(key, tuple(tensor.shape)) for key, tensor in published.items()]


@pytest.mark.parametrize(("refinements", "parameters"), [(1, 4_091_698), (3, 7_308_964)])
def test_sizes(refinements, parameters):
    with torch.device("meta"):
        assert counts(LightweightOpenPose(refinements=refinements))[2] == parameters


def test_maps_are_at_an_eighth_of_the_images_size():
    with torch.device("meta"):
        heatmaps, fields = LightweightOpenPose(5, 8)(torch.empty(2, 3, 64, 96))

    assert heatmaps.shape == (2, 5, 8, 12)
    assert fields.shape == (2, 8, 8, 12)
