"""One network of each family, from random weights to INT8: OpenVINO runs it and NVIDIA's builder accepts it.

`make test-all` takes every model and input size of the zoo instead.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")

from edgepose.backends import load_backend
from edgepose.calibration.pipeline import calibrate
from edgepose.export.pipeline import export_model
from edgepose.export.verify import sample_crops
from edgepose.export.zoo import Model, find_model, models
from tests.makers import smooth_image

ONE_OF_EACH = (
    "hrnet_w32",
    "cpm",
    "hourglass52",
    "stacked_hourglass_2",
    "simplebaseline_keras",
    "efficient_object_localization",
)


def chosen() -> list[Model]:
    if os.environ.get("EDGEPOSE_TEST_ALL"):
        return models()
    return [find_model(name) for name in ONE_OF_EACH]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", chosen(), ids=lambda model: f"{model.name}-{model.dataset}-{model.spec.input_hw[0]}")
def test_a_network_goes_from_random_weights_to_int8(model: Model, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    from edgepose.build import BuildOptions, build_engine

    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), smooth_image(seed=seed))
    exported = export_model(model, tmp_path, weights="random")
    calibrated = calibrate(exported.fp32, [tmp_path / "*.png"], method="minmax")

    crops = sample_crops(exported.spec, 1)
    maps = []
    for path in (exported.fp32, exported.fp16, calibrated.int8):
        with closing(load_backend(path)) as backend:
            maps.append(backend.heatmaps(crops))
        report = build_engine(path, options=BuildOptions(targets=("sm_86",), kernels=False), runtime=trt.__name__)
        assert report.plan.stat().st_size > 0
        report.plan.unlink()
    largest = np.abs(maps[0]).max()
    assert np.abs(maps[1] - maps[0]).max() < 0.05 * largest
    assert np.abs(maps[2] - maps[0]).mean() < 0.2 * largest  # INT8 of random weights: near, not close
