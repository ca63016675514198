"""The table of both passes' errors, on people whose key points are known."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.benchmarks.studies.two_pass import main, measure
from edgepose.model.heads.heatmaps import Refine
from edgepose.model.skeletons import Skeleton
from tests.makers import dots_image, dots_spec, write_toy_model

pytest.importorskip("onnxruntime")

ENDS = Skeleton("ends", ("left_shoulder", "right_hip"), flip_pairs=())
TRUTH = np.array([[43.5, 91.5], [131.5, 171.5]])  # the squares' centres


@pytest.fixture
def people(tmp_path):
    """A picture four times the size of the crop, with one person of two dots, and one without a torso."""
    cv2.imwrite(str(tmp_path / "1.png"), dots_image((42, 90), (130, 170), height=256, width=192)[..., ::-1])
    box = {"bbox": [0, 0, 192, 256], "area": 192 * 256, "iscrowd": 0, "category_id": 1, "image_id": 1}
    points = [[*xy, 2] for xy in TRUTH.tolist()]
    without = [points[0], [0, 0, 0]]
    annotations = tmp_path / "people.json"
    annotations.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.png", "width": 192, "height": 256}],
                "categories": [{"id": 1, "name": "person", "keypoints": list(ENDS.keypoints)}],
                "annotations": [
                    {**box, "id": i, "keypoints": np.ravel(rows).tolist(), "num_keypoints": 2}
                    for i, rows in enumerate((points, without), start=1)
                ],
            }
        )
    )
    return annotations


def write_model(folder, **changes):
    spec = dots_spec(skeleton=ENDS, flip_shift=0, decoder="argmax", **changes)
    return write_toy_model(folder / "m.onnx", spec)


def test_errors_of_both_passes_are_those_of_the_positions_found(tmp_path, people):
    model = write_model(tmp_path, refine=Refine(share=0.5, decoder="argmax"))

    count, (first, second) = measure(load_backend(model, backend="onnxruntime"), tmp_path, people)

    assert count == 1
    expected = np.linalg.norm([[32, 80], [128, 160]] - TRUTH, axis=1)  # the centres of 16 px cells, "corner" alignment
    np.testing.assert_allclose(first.px, expected, atol=1)  # the box ends a pixel before the picture
    np.testing.assert_allclose(first.torsos, first.px / np.linalg.norm(TRUTH[0] - TRUTH[1]))
    assert second.px.mean() < first.px.mean()


def test_the_table_has_a_row_for_each_pass(tmp_path, people):
    model = write_model(tmp_path, refine=Refine(share=0.5, decoder="argmax"))

    result = CliRunner().invoke(
        main, ["--engine", str(model), "--images", str(tmp_path), "--annotations", str(people), "--flip-test"]
    )

    assert result.exit_code == 0, result.output
    assert [line.split(" | ")[1] for line in result.output.splitlines()[2:]] == ["first", "second"]


def test_a_network_of_one_pass_is_refused(tmp_path, people):
    result = CliRunner().invoke(
        main,
        ["--engine", str(write_model(tmp_path)), "--images", str(tmp_path), "--annotations", str(people)],
    )

    assert result.exit_code == 2
    assert "takes one pass" in result.output
