"""One network of each family, from random weights to INT8: OpenVINO runs it and NVIDIA's builder accepts it.

`make test-all` takes every graph of the zoo instead: each model at each input size, in each style that builds another
network. Entries that differ only in their recipe (plain, DARK and UDP, say) have one graph and are built once. `make
test` takes convolutional networks at half their input: the same layers, a quarter of the arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")

from edgepose.backends import load_runtime
from edgepose.calibration.pipeline import calibrate
from edgepose.export.drawn.crops import sample_crops
from edgepose.export.networks import hourglass52
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


@pytest.fixture(autouse=not os.environ.get("EDGEPOSE_TEST_ALL"))
def _thinner_hourglass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the channels: its 95 million weights, written and read a dozen times, took longer than all its layers."""
    monkeypatch.setattr(hourglass52, "CHANNELS", tuple(count // 2 for count in hourglass52.CHANNELS))


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
