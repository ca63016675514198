"""docs/mpii.md: what its code makes of MPII's files is evaluated as HRNet's repository does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgepose.evaluation.evaluate import annotated_boxes
from edgepose.io.annotations import Annotations, read_annotations
from edgepose.model.skeletons import MPII16
from edgepose.model.spec import heatmap_spec
from edgepose.stages.geometry import Regions
from tests.packaging.conftest import ROOT, code_blocks

SPEC = heatmap_spec("mpii", (256, 256), (64, 64), MPII16)
PEOPLE = [
    {"image": "a.jpg", "center": [594.0, 257.0], "scale": 3.021},
    {"image": "b.jpg", "center": [20.0, 30.0], "scale": 1.5},  # reaches out of the image
    {"image": "a.jpg", "center": [952.0, 222.0], "scale": 2.5},
]
HEADBOXES = np.array([[[627, 10, 900], [100, 20, 90]], [[706, 40, 960], [198, 60, 170]]])  # corner, x and y, person


@pytest.fixture
def made(tmp_path, monkeypatch) -> Annotations:
    """What the document's code writes, of files in the form of the published ones."""
    rng = np.random.default_rng(0)
    truth = {
        "pos_gt_src": rng.uniform(1, 700, (16, 2, 3)),
        "jnt_missing": (np.arange(48).reshape(16, 3) % 5 == 0).astype(np.uint8),
        "headboxes_src": HEADBOXES,
    }
    scipy, scipy_io = ModuleType("scipy"), ModuleType("scipy.io")
    scipy_io.loadmat = lambda name: truth  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scipy", scipy)
    monkeypatch.setitem(sys.modules, "scipy.io", scipy_io)
    monkeypatch.chdir(tmp_path)
    Path("mpii_val.json").write_text(json.dumps(PEOPLE))
    (code,) = code_blocks((ROOT / "docs/mpii.md").read_text(encoding="utf-8"), "python")

    exec(code, {})

    read = read_annotations(Path("mpii.json"))
    for image, people in zip(read.images, ([0, 2], [1]), strict=True):
        np.testing.assert_allclose(
            image.keypoints[..., :2][image.keypoints[..., 2] > 0],
            truth["pos_gt_src"].transpose(2, 0, 1)[people][truth["jnt_missing"].T[people] == 0] - 1,
        )
        np.testing.assert_array_equal(image.keypoints[..., 2] == 0, truth["jnt_missing"].T[people] == 1)
    return read


def test_the_crops_are_those_of_the_published_evaluation(made):
    people = {"a.jpg": [PEOPLE[0], PEOPLE[2]], "b.jpg": [PEOPLE[1]]}

    for image in made.images:
        regions = Regions.around(annotated_boxes(image, (720, 1280)), SPEC)

        for center, size, person in zip(regions.center_xy, regions.size_wh, people[image.file_name], strict=True):
            c, s = np.array(person["center"]), person["scale"]  # the steps of HRNet's `mpii.py`
            c[1] += 15 * s
            s *= 1.25
            np.testing.assert_allclose(center, c - 1)
            np.testing.assert_allclose(size, 200 * s)


def test_heads_are_measured_as_published(made):
    sizes = np.linalg.norm(HEADBOXES[1] - HEADBOXES[0], axis=0) * 0.6

    found = np.concatenate([image.head_sizes for image in made.images])

    np.testing.assert_allclose(found, sizes[[0, 2, 1]])
    assert made.keypoint_names == MPII16.keypoints
