"""The GPU's data path on a stand-in device: see tests/fake_device. Nothing here runs on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.backends import load_backend
from edgepose.geometry import Regions
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec, write_toy_model
from tests.nvcc import needs_nvcc

pytestmark = needs_nvcc
PICTURE = dots_image((8, 20), (28, 40))
WHOLE = np.array([[0, 0, 48, 64]], np.float32)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        yield gpu
        assert gpu.problems == []


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(("max_batch", "count"), [(1, 2), (3, 2), (8, 0), (8, 1), (3, 7)])
def test_key_points_are_those_of_the_cpu(gpu, tmp_path, count, max_batch, flip_test):
    spec = dots_spec(flip_shift=0)
    reference = load_backend(write_toy_model(tmp_path / "cpu.onnx", spec), backend="onnxruntime")
    boxes = WHOLE.repeat(count, axis=0)
    boxes[:, 2:] += np.arange(count)[:, None]
    regions = Regions.around(boxes, spec)

    with load_backend(write_toy_plan(tmp_path / "m.plan", spec, max_batch=max_batch)) as backend:
        for left in (8, 12, 16):  # launched and recorded, then replayed
            image = dots_image((left, 20), (28, 40))
            found = backend.keypoints(image, regions, flip_test=flip_test)
            np.testing.assert_allclose(found, reference.keypoints(image, regions, flip_test=flip_test), atol=0.01)

    assert gpu.live == {}
    assert gpu.graphs == {}
