"""infer with networks that find positions in space."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.io.images import read_image
from edgepose.io.video import VideoReader, video_file
from tests.makers import smooth_image
from tests.trt.test_every_kind import SPECS, write_network_of

pytest.importorskip("openvino")
IN_SPACE = [spec for spec in SPECS if spec.gives_depth]


@pytest.fixture(params=IN_SPACE, ids=lambda spec: spec.name)
def model(request, tmp_path) -> Path:
    return write_network_of(tmp_path / "m.onnx", request.param)


def infer(model: Path, *arguments: object):
    return CliRunner().invoke(main, ["infer", "--engine", str(model), "--boxes", "whole", *map(str, arguments)])


def test_each_person_of_a_picture_gets_positions(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), smooth_image())

    result = infer(model, tmp_path / "a.png", "--no-save-overlay", "-o", tmp_path / "out")

    assert result.exit_code == 0, result.output
    (person,) = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    xyz = np.reshape(person["xyz"], (3, 3))
    assert np.abs(xyz[2]).max() == 0  # the pelvis
    assert 0 < np.abs(xyz).max() < 2 * 2.1745  # both ends of the depth
    assert len(person["keypoints"]) == 9


def test_positions_are_drawn_beside_pictures_and_videos(model, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws positions; install edgepose[plot]")
    cv2.imwrite(str(tmp_path / "a.png"), smooth_image())
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for seed in range(2):
            writer.write(smooth_image(seed=seed))

    result = infer(model, tmp_path / "a.png", tmp_path / "clip.mp4", "-o", tmp_path / "out")

    assert result.exit_code == 0, result.output
    drawn = read_image(tmp_path / "out" / "overlays" / "a.png")
    frames = list(VideoReader(next((tmp_path / "out" / "overlays").glob("clip*"))))
    assert [picture.shape for picture in (drawn, *frames)] == [(120, 160 + 180, 3)] * 3


def test_a_lifter_beside_such_a_network_is_a_mistake(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), smooth_image())

    result = infer(model, tmp_path / "a.png", "--lift", tmp_path / "lifter.onnx")

    assert result.exit_code == 2
    assert "finds positions in space itself: leave out --lift" in result.output


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [1e9, 1e9, 5, 5], [float("nan"), 0, 9, 9]])
def test_a_box_without_a_person_is_counted_and_the_rest_is_kept(model, tmp_path, box):
    cv2.imwrite(str(tmp_path / "1.png"), smooth_image())
    found = [{"image_id": 1, "category_id": 1, "bbox": one, "score": 1.0} for one in (box, [5, 5, 90, 100])]
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    arguments = ["infer", "--engine", str(model), "--boxes", str(tmp_path / "boxes.json"), str(tmp_path / "1.png")]

    result = CliRunner().invoke(main, [*arguments, "--no-save-overlay", "-o", str(tmp_path / "out")])

    assert result.exit_code == 0, result.output
    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert all(value is not None for value in people[-1]["xyz"])
