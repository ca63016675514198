import pytest
import torch

from edgepose.export.networks.associative_embedding import HigherHRNet, TaggedHRNet
from tests.export.families import counts, relative_difference, without_prefixes
from tests.export.golden import golden_outputs, golden_state
from tests.shared_data import needs_shared


@needs_shared
def test_hrnet_with_tags_computes_what_mmpose_does():
    network = TaggedHRNet(32, 17).eval()
    network.load_state_dict(without_prefixes(golden_state("mm_ae_hrnet_w32")))
    images, expected = golden_outputs("mm_ae_hrnet_w32")

    with torch.inference_mode():
        heatmaps, tags = network(torch.from_numpy(images))

    assert relative_difference(heatmaps.numpy(), expected["heatmaps"]) < 1e-5
    assert relative_difference(tags.numpy(), expected["tags"]) < 1e-5


@needs_shared
def test_higher_hrnet_computes_what_the_published_implementation_does():
    network = HigherHRNet(32, 17).eval()
    network.load_state_dict(golden_state("higher_hrnet_w32"))
    images, expected = golden_outputs("higher_hrnet_w32")

    with torch.inference_mode():
        quarter, half = network.both(torch.from_numpy(images))
        heatmaps, tags = network(torch.from_numpy(images))
        large = torch.nn.functional.interpolate(
            torch.from_numpy(expected["quarter"]), size=half.shape[2:], mode="bilinear"
        )

    assert relative_difference(quarter.numpy(), expected["quarter"]) < 1e-5
    assert relative_difference(half.numpy(), expected["half"]) < 1e-5
    average = (large[:, :17].numpy() + expected["half"]) / 2
    assert relative_difference(heatmaps.numpy(), average) < 1e-5
    assert relative_difference(tags.numpy(), large[:, 17:].numpy()) < 1e-5


@needs_shared
def test_higher_hrnet_has_the_published_names_in_their_order():
    with torch.device("meta"):
        ours = {key: tuple(tensor.shape) for key, tensor in HigherHRNet(32, 17).state_dict().items()}

    published = golden_state("higher_hrnet_w32")
    assert list(ours.items()) == [(key, tuple(tensor.shape)) for key, tensor in published.items()]


@pytest.mark.parametrize(
    ("network", "width", "parameters"),
    [
        (TaggedHRNet, 32, 28_536_674),
        (TaggedHRNet, 48, 63_596_578),
        (HigherHRNet, 32, 28_645_331),  # the paper's table: 28.6 M and 63.8 M
        (HigherHRNet, 48, 63_827_139),
    ],
)
def test_sizes(network, width, parameters):
    with torch.device("meta"):
        assert counts(network(width, 17))[2] == parameters
