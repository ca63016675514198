from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgepose.export.networks.rtmpose import rtmpose, rtmw
from edgepose.export.networks.simcc_resnet import SimCCResNet
from tests.export.families import counts, without_prefixes
from tests.export.golden import golden_state
from tests.shared_data import SHARED, needs_shared

SIZE = (256, 192)
NETWORKS = {
    "mm_rtmpose_t": lambda: rtmpose("t", 17, SIZE),
    "mm_rtmpose_s": lambda: rtmpose("s", 17, SIZE),
    "mm_rtmw_m": lambda: rtmw("m", 133, SIZE),
    "mm_simcc_res50": lambda: SimCCResNet(17, SIZE),
}


def run(network: nn.Module, crops: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        return [np.asarray(vectors) for vectors in network.eval()(torch.from_numpy(crops))]


@needs_shared
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_the_published_implementation_does(name):
    network = NETWORKS[name]()
    network.load_state_dict(without_prefixes(golden_state(name)))
    with np.load(SHARED / "golden" / f"{name}.npz") as golden:
        crops = np.random.default_rng(0).standard_normal(tuple(golden["input_shape"])).astype(np.float32)
        expected = [golden["simcc_x"], golden["simcc_y"]]

    for found, wanted in zip(run(network, crops), expected, strict=True):
        assert found.shape == wanted.shape
        difference = np.abs(found - wanted).max(axis=(0, 2)) / np.abs(wanted).max()  # by key point
        # one of RTMW's 133 key points has a token near zero, whose rounding its norm magnifies: in float64 this
        # network differs from the stored float32 there by 2e-4 as well, elsewhere by 1e-5 and less
        assert np.sort(difference)[: len(difference) - (name == "mm_rtmw_m")].max() < 1e-4
        assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-4


@pytest.mark.parametrize(
    ("make", "parameters"),  # published in millions: mmpose's model tables
    [
        (lambda: rtmpose("t", 17, SIZE), 3.34),
        (lambda: rtmpose("s", 17, SIZE), 5.47),
        (lambda: rtmpose("m", 17, SIZE), 13.59),
        (lambda: rtmpose("l", 17, SIZE), 27.66),
        (lambda: rtmpose("m", 17, (384, 288)), 13.72),
        (lambda: rtmpose("l", 17, (384, 288)), 27.79),
        (lambda: rtmpose("m", 26, SIZE), 13.93),
        (lambda: rtmpose("m", 133, SIZE), 17.95),
        (lambda: rtmw("m", 133, SIZE), 32.26),
        (lambda: rtmw("l", 133, SIZE), 57.20),
    ],
)
def test_published_numbers_of_parameters(make, parameters):
    with torch.device("meta"):
        assert round(counts(make())[2] / 1e6, 2) == parameters


@pytest.mark.parametrize("size", ["t", "s", "m", "l", "x"])
@pytest.mark.parametrize("input_hw", [SIZE, (384, 288), (256, 256)])
def test_vectors_have_two_bins_a_px(size, input_hw):
    with torch.device("meta"):
        x, y = rtmpose(size, 5, input_hw).eval()(torch.empty(1, 3, *input_hw))

    assert x.shape == (1, 5, 2 * input_hw[1])
    assert y.shape == (1, 5, 2 * input_hw[0])


def test_rtmw3d_has_a_third_vector():
    with torch.device("meta"):
        vectors = rtmw("l", 133, (384, 288), depth_bins=576).eval()(torch.empty(1, 3, 384, 288))

    assert [vector.shape[2] for vector in vectors] == [576, 768, 576]


def test_people_of_a_batch_do_not_see_each_other():
    network = rtmpose("t", 3, (64, 64))
    crops = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)

    both, second = run(network, crops), run(network, crops[1:])

    for together, alone in zip(both, second, strict=True):
        assert np.allclose(together[1:], alone, atol=1e-5)
