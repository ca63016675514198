import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people
from edgepose.errors import InputError, ModelFileError
from edgepose.evaluation import bottom_up
from edgepose.evaluation.bottom_up import evaluate_maps
from edgepose.evaluation.report import table_of
from edgepose.model.heads.fields import Fields
from edgepose.model.skeletons import COCO17, OPENPOSE18, Skeleton
from edgepose.model.spec import Input, ModelSpec

MAP_HW = (96, 160)
SPEC = ModelSpec("drawn", Input(MAP_HW, resize="plain"), Fields(MAP_HW, upsample=1), OPENPOSE18)


class Drawn:
    """A network that finds the drawn people in any picture of MAP_HW, or some of them."""

    def __init__(self, found: range, spec: ModelSpec = SPEC) -> None:
        rng = np.random.default_rng(3)
        self.points = draw_people(2, MAP_HW, rng, height=60)
        self.points += [[[40.0, 48.0]], [[120.0, 48.0]]] - self.points.mean(axis=1, keepdims=True)
        heatmaps, drawn = draw_maps(self.points[found], MAP_HW, rng, missing=0)
        maps = np.concatenate([heatmaps, np.zeros((1, *MAP_HW), np.float32)])
        self.outputs = {"heatmaps": maps[None], "pafs": draw_fields(self.points[found], drawn, MAP_HW, rng)[None]}
        self.passport = SimpleNamespace(spec=spec, sha256="0" * 64, precision="fp32")

    def run(self, inputs):
        assert inputs["images"].shape == (1, 3, *MAP_HW)
        return self.outputs


@pytest.fixture
def measured(monkeypatch, tmp_path: Path):
    networks = {Path("both.onnx"): Drawn(range(2)), Path("one.onnx"): Drawn(range(1))}
    monkeypatch.setattr(bottom_up, "load_runtime", lambda path, **_: networks[Path(path)])
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((*MAP_HW, 3), np.uint8))
    annotations = []
    for index, person in enumerate(networks[Path("both.onnx")].points[:, COCO17_OF_18]):
        low, high = person.min(axis=0), person.max(axis=0)
        annotations.append(
            {
                "id": index + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17,
                "keypoints": np.concatenate([person, np.full((17, 1), 2)], axis=1).ravel().tolist(),
                "bbox": [*low.tolist(), *(high - low).tolist()], "area": float((high - low).prod()),
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}]
    images = [{"id": 1, "file_name": "0.png", "height": MAP_HW[0], "width": MAP_HW[1]}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return lambda *names, **options: evaluate_maps(
        [Path(name) for name in names], tmp_path, tmp_path / "truth.json", **options
    )


def test_who_finds_everybody_is_perfect(measured):
    evaluation = measured("both.onnx")

    (row,) = evaluation.models
    assert row.figures["AP50"] == pytest.approx(1)
    assert row.people == 2
    assert row.shift is None
    assert evaluation.conditions["people"] == 2


def test_who_misses_one_finds_half_and_has_lost_one(measured):
    _, row = measured("both.onnx", "one.onnx").models

    assert row.figures["AR50"] == pytest.approx(0.5)
    assert (row.shift["people"], row.shift["lost"], row.shift["gained"]) == (2, 1, 0)


def test_scales_are_among_the_conditions(measured):
    evaluation = measured("both.onnx", scales=[Path("both.onnx"), Path("both.onnx")])

    assert evaluation.models[0].figures["AP50"] == pytest.approx(1)
    assert evaluation.conditions["scales"] == ["96x160", "96x160"]
    assert "no flip test, maps averaged with those of 96x160, 96x160" in table_of(evaluation)


def test_the_table_has_a_row_for_each_file(measured):
    lines = table_of(measured("both.onnx", "one.onnx")).splitlines()

    assert [line.split()[0] for line in lines[:3]] == ["file", "both.onnx", "one.onnx"]
    assert lines[3] == "2 people in 1 images of truth.json, whole images, no flip test"


def test_a_network_without_one_of_cocos_points_is_refused(monkeypatch, measured):
    names = tuple(name.replace("left_ear", "left_lobe") for name in OPENPOSE18.keypoints)
    spec = ModelSpec("other", SPEC.input, SPEC.head, Skeleton("other", names, ()))
    monkeypatch.setattr(bottom_up, "load_runtime", lambda *_, **__: Drawn(range(1), spec))

    with pytest.raises(ModelFileError, match="AP needs all of COCO's key points; left_ear cannot"):
        measured("both.onnx")


def test_images_that_are_not_there_are_named(measured, tmp_path):
    (tmp_path / "0.png").unlink()

    with pytest.raises(InputError, match="none of the 1 images"):
        measured("both.onnx")
