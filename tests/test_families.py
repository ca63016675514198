"""One network of each family, from random weights to INT8: OpenVINO runs it and NVIDIA's builder accepts it.

`make test-all` takes every graph of the zoo instead: each model at each input size, in each style that builds another
network. Entries that differ only in their recipe (plain, DARK and UDP, say) have one graph and are built once. `make
test` takes convolutional networks at half their input, and of a row of equal layers one or two: a test compares the
kinds of layers with those of the whole network. It takes a third of the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")

import torch
from torch import nn

from edgepose.backends import load_runtime
from edgepose.calibration.pipeline import calibrate
from edgepose.export.drawn.crops import sample_crops
from edgepose.export.networks import cpm, hourglass52, hrnet, rtmpose, simple_baseline, stacked_hourglass, vitpose
from edgepose.export.pipeline import export_model
from edgepose.export.zoo.find import find_model, models
from edgepose.export.zoo.model import Model
from tests.makers import smooth_image

ONE_OF_EACH = (
    "hrnet_w32",
    "cpm",
    "hourglass52",
    "stacked_hourglass_2",
    "simplebaseline_keras",
    "vitpose_s",
    "rtmpose_t",
)
ONE_SIZE = ("vitpose_s", "rtmpose_t")  # positions and tokens have weights
OTHER_GRAPHS = {"caffe": "simplebaseline_resnet", "princeton": "stacked_hourglass"}  # style -> whose graph it changes


def every_graph() -> list[tuple[Model, str]]:
    graphs = {
        (model.name, model.dataset, model.spec.image.size_hw, model.spec.num_maps, style): model
        for model in reversed(models())
        for style in reversed(model.styles)
        if style == model.styles[0] or model.name.startswith(OTHER_GRAPHS.get(style, "no model"))
    }
    return [(model, key[-1]) for key, model in reversed(graphs.items())]


def chosen() -> list[tuple[Model, str]]:
    if os.environ.get("EDGEPOSE_TEST_ALL"):
        return every_graph()
    return [(at_half_size(model), model.styles[0]) for model in map(find_model, ONE_OF_EACH)]


def at_half_size(model: Model) -> Model:
    """A convolutional network's entry for half the input; that of a network with weights for one size as it is."""
    if model.name in ONE_SIZE:
        return model
    input_hw, map_hw = (
        tuple(size // 2 for size in sizes) for sizes in (model.spec.image.size_hw, model.spec.heatmaps.size_hw)
    )
    return replace(model, spec=model.spec.changed(input_hw=input_hw, heatmap_hw=map_hw))


def label(graph: tuple[Model, str]) -> str:
    model, style = graph
    return f"{model.label} {model.spec.decoder} {style}".replace(" ", "-")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Gone after the test: all sizes together would take some ten gigabytes."""
    with TemporaryDirectory() as name:
        yield Path(name)


SMALLER: tuple[tuple[ModuleType, str, object], ...] = (
    (hrnet, "MODULES", (1, 1, 1)),
    (hrnet, "BLOCKS", 1),
    (cpm, "CHANNELS", 32),
    (cpm, "STAGES", 3),  # the first, one that follows it, and one that follows such a one
    (hourglass52, "CHANNELS", tuple(count // 8 for count in hourglass52.CHANNELS)),
    (hourglass52, "BLOCKS", (2, 1, 1, 1, 1, 1)),
    (stacked_hourglass, "WIDTH", 64),
    (simple_baseline, "LAYERS", {**simple_baseline.LAYERS, 50: ((1, 2, 1, 1), *simple_baseline.LAYERS[50][1:])}),
    (vitpose, "SIZES", {**vitpose.SIZES, "s": (192, 2, 6)}),
    (rtmpose, "SIZES", {**rtmpose.SIZES, "m": rtmpose.SIZES["t"]}),
)
WHOLE = {(module, name): getattr(module, name) for module, name, _ in SMALLER}


@pytest.fixture(autouse=not os.environ.get("EDGEPOSE_TEST_ALL"))
def smaller_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer layers of each kind: weights written and read a dozen times took longer than all that is looked at."""
    for module, name, value in SMALLER:
        monkeypatch.setattr(module, name, value)


def kinds_of_layers(network: nn.Module) -> set[tuple[object, ...]]:
    """What makes one layer another kind than its neighbour, but for its channels."""
    names = ("kernel_size", "stride", "dilation", "scale_factor", "mode", "eps")
    return {
        (type(layer).__name__, getattr(layer, "groups", 1) > 1, *(getattr(layer, name, None) for name in names))
        for layer in network.modules()
    }


def has_every_kind_of_layer(model: Model, style: str) -> None:
    with torch.device("meta"):
        smaller = kinds_of_layers(model.build(style))
        with pytest.MonkeyPatch.context() as patch:
            for (module, name), value in WHOLE.items():
                patch.setattr(module, name, value)
            whole = kinds_of_layers(model.build(style))
    assert smaller == whole


@pytest.mark.parametrize("graph", chosen(), ids=label)
def test_a_smaller_network_has_every_kind_of_layer(graph: tuple[Model, str]) -> None:
    has_every_kind_of_layer(*graph)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("graph", chosen(), ids=label)
def test_a_network_goes_from_random_weights_to_int8(graph: tuple[Model, str], folder: Path) -> None:
    goes_to_int8(graph, folder)


def goes_to_int8(graph: tuple[Model, str], folder: Path) -> None:
    """Export, calibrate, run and build; also for tests/test_simcc_families.py, which another worker runs."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    from edgepose.trt.build import build_engine
    from edgepose.trt.options import BuildOptions

    for seed in range(3):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    model, style = graph
    exported = export_model(model, folder, weights="random", style=style)
    calibrated = calibrate(exported.fp32, [folder / "*.png"], method="minmax")

    crops = sample_crops(exported.spec, 1)
    outputs = []
    for path in (exported.fp32, exported.fp16, calibrated.int8):
        with closing(load_runtime(path)) as runtime:
            outputs.append(list(runtime.run({"crops": crops}).values()))
        report = build_engine(path, options=BuildOptions(targets=("sm_86",), kernels=False), runtime=trt.__name__)
        assert report.plan.stat().st_size > 0
    for single, half, int8 in zip(*outputs, strict=True):
        largest = np.abs(single).max()
        assert np.abs(half - single).max() < 0.05 * largest or single.ndim == 3  # norms magnify a value of a vector
        assert np.abs(half - single).mean() < 0.02 * largest
        assert np.abs(int8 - single).mean() < 0.2 * largest  # INT8 of random weights: near, not close
