from __future__ import annotations

import errno
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import edgepose.evaluation.evaluate
import edgepose.evaluation.report
from edgepose.cli import main
from edgepose.errors import InputError, MissingPackageError
from edgepose.evaluation.coco_ap import average_precision
from edgepose.evaluation.evaluate import annotated_boxes, evaluate
from edgepose.evaluation.report import record_accuracy, table_of
from edgepose.files import sha256_of
from edgepose.io.annotations import AnnotatedImage, read_annotations
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.skeletons import COCO17, MPII16
from edgepose.model.spec import ModelSpec, heatmap_spec
from edgepose.stages.similarity import COUNTED
from tests.makers import make_spec
from tests.shared_data import SHARED, needs_shared

SIZE_HW = (120, 160)


def make_people(folder: Path, images: int = 3, people: int = 2, **extra: Any) -> Path:
    """Pictures (grey level = image id) and annotations of people whose 17 points lie on a grid in their boxes."""
    entries, annotations = [], []
    for image_id in range(1, images + 1):
        name = f"picture{image_id}.png"
        cv2.imwrite(str(folder / name), np.full((*SIZE_HW, 3), image_id, np.uint8))
        entries.append({"id": image_id, "file_name": name, "width": SIZE_HW[1], "height": SIZE_HW[0]})
        for i in range(people):
            left, top = 10 + 75 * i, 15 + image_id
            grid = [(left + 6 + 11 * (k % 5), top + 8 + 20 * (k // 5), 2) for k in range(17)]
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            points = [number for point in grid for number in point]
            annotations.append({**annotation, "bbox": [left, top, 60, 80], "area": 2500, "keypoints": points, **extra})
    path = folder / "people.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    path.write_text(json.dumps({"images": entries, "categories": [category], "annotations": annotations}))
    return path


class Finder:
    """A backend that knows the truth and puts each region's nearest person `offset_px` heat-map px beside it."""

    name = "finder"
    arithmetic = "FP32"

    def __init__(self, annotations: Path, spec: ModelSpec, offset_px: float = 0, weights: str = "known") -> None:
        truth = read_annotations(annotations)
        self.truth = {image.image_id: image for image in truth.images}
        self.names = truth.keypoint_names
        self.passport = Passport(spec, "fp32", "0" * 64, weights)
        self.spec = spec
        self.offset_px = offset_px
        self.flip_tests: list[bool] = []

    def warm_up(self, *, flip_test: bool = False) -> None:
        pass

    def keypoints(
        self, image: np.ndarray, regions: Any, *, flip_test: bool = False, decoder: str | None = None
    ) -> np.ndarray:
        self.flip_tests.append(flip_test)
        people = self.truth[int(image[0, 0, 0])]
        found = np.zeros((len(regions), self.spec.num_keypoints, 3), np.float32)
        found[..., 2] = 0.9
        centers = people.boxes_xywh[:, :2] + people.boxes_xywh[:, 2:] / 2
        for row, center in zip(found, regions.center_xy, strict=True):
            person = people.keypoints[np.linalg.norm(centers - center, axis=1).argmin()]
            for k, name in enumerate(self.spec.skeleton.keypoints):
                if name in self.names:
                    row[k, :2] = person[self.names.index(name), :2]
        off = regions.to_grid(found[..., :2], self.spec.heatmaps.size_hw) + np.array([self.offset_px, 0])
        found[..., :2] = regions.to_image(off, self.spec.heatmaps.size_hw)
        return found

    def keypoints_of(self, images: Any, regions: Any, **options: Any) -> list[np.ndarray]:
        return [self.keypoints(*each, **options) for each in zip(images, regions, strict=True)]

    def close(self) -> None:
        pass


@pytest.fixture
def finders(monkeypatch):
    """Engine name -> Finder, in place of load_backend."""
    known: dict[str, Finder] = {}
    monkeypatch.setattr(edgepose.evaluation.evaluate, "load_backend", lambda path, **options: known[Path(path).name])
    return known


def spec_of(skeleton: Any = COCO17, **changes: Any) -> ModelSpec:
    return make_spec(**{"input_hw": (256, 192), "heatmap_hw": (64, 48), "skeleton": skeleton, **changes})


def test_a_model_that_knows_the_truth_is_always_right(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    figures = evaluation.models[0].figures
    assert {name: figures[name] for name in ("AP", "AP50", "APM", "AR", "PCK@0.2")} == {
        "AP": pytest.approx(1),
        "AP50": pytest.approx(1),
        "APM": pytest.approx(1),
        "AR": pytest.approx(1),
        "PCK@0.2": 1,
    }
    assert figures["APL"] is None  # nobody is large
    assert figures["PCKh@0.5"] is None
    assert evaluation.conditions["people"] == 6
    assert evaluation.conditions["images"] == 3


def test_figures_are_those_of_exact_arithmetic(tmp_path, finders, monkeypatch):
    annotations = make_people(tmp_path)
    asked = []
    monkeypatch.setattr(
        edgepose.evaluation.evaluate,
        "load_backend",
        lambda path, **options: asked.append(options["exact"]) or Finder(annotations, spec_of()),
    )

    evaluate([Path("m.onnx"), Path("m.int8.onnx")], tmp_path, annotations)

    assert asked == [True, True]


def test_the_second_file_is_compared_with_the_first(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())
    finders["m.int8.onnx"] = Finder(annotations, spec_of(name="other"), offset_px=1.5)

    evaluation = evaluate([Path("m.onnx"), Path("m.int8.onnx")], tmp_path, annotations)

    exact, shifted = evaluation.models
    assert exact.shift is None
    assert shifted.shift is not None
    assert shifted.shift["mean"] == pytest.approx(1.5, abs=1e-4)
    assert shifted.shift["share_over_1"] == 1
    assert shifted.shift["keypoints"] == 6 * 17
    assert shifted.figures["AP"] < exact.figures["AP"]
    difference = shifted.figures["AP"] - exact.figures["AP"]
    assert f"({difference:+.3f})" in table_of(evaluation)


def test_other_recipes_are_not_compared_by_shift(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())
    finders["n.onnx"] = Finder(annotations, spec_of(input_hw=(128, 96)))

    evaluation = evaluate([Path("m.onnx"), Path("n.onnx")], tmp_path, annotations)

    assert evaluation.models[1].shift is None
    assert any("different recipes" in note for note in evaluation.notes())


def test_key_points_are_matched_by_name_and_what_cannot_be_computed_is_named(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of(MPII16))

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    figures = evaluation.models[0].figures
    assert figures["AP"] is None
    assert figures["PCK@0.2"] == 1
    assert any("nose, left_eye, right_eye, left_ear, right_ear cannot" in note for note in evaluation.notes())


def test_head_boxes_give_pckh(tmp_path, finders):
    annotations = make_people(tmp_path, headbox=[0, 0, 30, 40])  # 0.5 * 0.6 * 50 = 15 px
    finders["near.onnx"] = Finder(annotations, spec_of(), offset_px=14 / (80 * 1.25 / 64))  # px per heat-map px
    finders["far.onnx"] = Finder(annotations, spec_of(), offset_px=16 / (80 * 1.25 / 64))

    near, far = evaluate([Path("near.onnx"), Path("far.onnx")], tmp_path, annotations).models

    assert near.figures["PCKh@0.5"] == 1
    assert far.figures["PCKh@0.5"] == 0


def test_boxes_from_a_detector_leave_people_out_and_double_people(tmp_path, finders):
    annotations = make_people(tmp_path, images=1)
    (image,) = read_annotations(annotations).images
    box = image.boxes_xywh[0].tolist()
    boxes = tmp_path / "boxes.json"
    entries = [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for score in (0.9, 0.8)]
    boxes.write_text(json.dumps(entries))
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations, boxes=boxes)

    figures = evaluation.models[0].figures
    assert figures["PCK@0.2"] == 0.5  # the second person has no box
    assert figures["AR"] == pytest.approx(0.5)
    assert figures["AP"] == pytest.approx(51 / 101)  # precision 1 up to recall 0.5: the double is gone
    assert evaluation.conditions["boxes"].startswith("boxes.json sha256 ")


@pytest.mark.parametrize(("share", "found"), [(0.55, 1), (0.45, 0.5)])
def test_a_box_is_that_of_the_person_it_covers_by_half(share, found, tmp_path, finders):
    annotations = make_people(tmp_path, images=1)
    (image,) = read_annotations(annotations).images
    left, top, width, height = image.boxes_xywh[0]
    part = [left + width * (1 - share) / 2, top, width * share, height]  # of the same centre: IoU is the share
    entries = [{"image_id": 1, "bbox": box} for box in (part, image.boxes_xywh[1].tolist())]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations, boxes=tmp_path / "boxes.json")

    assert evaluation.models[0].figures["PCK@0.2"] == found


def test_poses_are_rescored_by_their_boxes(tmp_path, finders, monkeypatch):
    annotations = make_people(tmp_path, images=1)
    (image,) = read_annotations(annotations).images
    scored = zip(image.boxes_xywh.tolist(), (0.9, 0.8), strict=True)
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "bbox": b, "score": s} for b, s in scored]))
    finders["m.onnx"] = Finder(annotations, spec_of())
    seen: list[Any] = []
    monkeypatch.setattr(
        edgepose.evaluation.evaluate, "figures_of", lambda *arguments: seen.append(arguments[2]) or ({}, [])
    )

    for boxes in (tmp_path / "boxes.json", None):
        evaluate([Path("m.onnx")], tmp_path, annotations, boxes=boxes)

    assert [found.box_scores.tolist() for (found,) in seen] == [pytest.approx([0.9, 0.8]), [1, 1]]


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_flip_test_is_made_where_it_is_asked_for(flip_test, tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations, flip_test=flip_test)

    assert set(finders["m.onnx"].flip_tests) == {flip_test}
    assert evaluation.conditions["flip_test"] == flip_test


def test_images_that_cannot_be_read_are_counted_and_left_out(tmp_path, finders):
    annotations = make_people(tmp_path)
    (tmp_path / "picture2.png").write_bytes(b"no image")
    (tmp_path / "picture3.png").unlink()
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    assert evaluation.conditions["images"] == 1
    assert evaluation.models[0].figures["AP"] == pytest.approx(1)
    assert [line.split(":")[0] for line in evaluation.unreadable] == [
        str(tmp_path / name) for name in ("picture2.png", "picture3.png")
    ]


def test_with_no_readable_image_there_is_no_result(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match="none of the 3 images"):
        evaluate([Path("m.onnx")], tmp_path / "empty", annotations)
    with pytest.raises(InputError, match="no such folder"):
        evaluate([Path("m.onnx")], tmp_path / "nowhere", annotations)


def test_pictures_that_are_not_the_annotated_ones_are_left_out(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())
    cv2.imwrite(str(tmp_path / "picture2.png"), np.full((160, 120, 3), 2, np.uint8))

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    assert evaluation.conditions["images"] == 2
    assert evaluation.models[0].figures["AP"] == pytest.approx(1)
    (line,) = evaluation.unreadable
    assert line.startswith("picture2.png is 120x160, its annotations are for 160x120")
    assert line in evaluation.notes()


def test_annotations_of_other_pictures_are_refused(tmp_path, finders):
    annotations = make_people(tmp_path, images=1)
    finders["m.onnx"] = Finder(annotations, spec_of())
    cv2.imwrite(str(tmp_path / "picture1.png"), np.full((160, 120, 3), 1, np.uint8))

    with pytest.raises(InputError, match=r"none of the 1 images .* picture1\.png is 120x160"):
        evaluate([Path("m.onnx")], tmp_path, annotations)


def test_boxes_that_cannot_be_used_are_counted(tmp_path, finders):
    annotations = make_people(tmp_path, images=1)
    (image,) = read_annotations(annotations).images
    boxes = tmp_path / "boxes.json"
    bad = ([10, 10, 0, 20], [float("nan"), 10, 20, 20], [500, 10, 20, 20])  # no area; no number; outside
    boxes.write_text(json.dumps([{"image_id": 1, "bbox": box} for box in (*bad, image.boxes_xywh[0].tolist())]))
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations, boxes=boxes)

    assert evaluation.unusable_boxes == 3
    assert evaluation.to_json()["unusable_boxes"] == 3
    assert any(note.startswith("3 boxes left out") for note in evaluation.notes())
    assert evaluation.models[0].figures["PCK@0.2"] == 0.5


@pytest.mark.parametrize("lost", [{"bbox": [10, 10, 0, 80]}, {"area": 0}])  # COCO leaves out people without an area
def test_annotated_people_without_a_usable_box_are_counted(lost, tmp_path, finders):
    annotations = make_people(tmp_path, images=2)
    data = json.loads(annotations.read_bytes())
    data["annotations"][0].update(lost)
    annotations.write_text(json.dumps(data))
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    assert evaluation.unusable_boxes == 1


def test_a_picture_with_a_name_too_long_for_a_file_is_left_out(tmp_path, finders):
    annotations = make_people(tmp_path, images=2)
    data = json.loads(annotations.read_bytes())
    data["images"][0]["file_name"] = 300 * "x" + ".png"
    annotations.write_text(json.dumps(data))
    finders["m.onnx"] = Finder(annotations, spec_of())

    evaluation = evaluate([Path("m.onnx")], tmp_path, annotations)

    assert len(evaluation.unreadable) == 1


def test_only_so_many_images_are_taken_as_asked_for(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of())

    assert evaluate([Path("m.onnx")], tmp_path, annotations, limit=2).conditions["images"] == 2


def test_images_without_posed_people_count_with_boxes_of_a_detector_unless_a_number_is_asked_for(tmp_path, finders):
    annotations = make_people(tmp_path)
    data = json.loads(annotations.read_bytes())
    data["annotations"] = [each for each in data["annotations"] if each["image_id"] != 1]
    annotations.write_text(json.dumps(data))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 2, "bbox": [10, 17, 60, 80], "score": 1}]))
    finders["m.onnx"] = Finder(annotations, spec_of())

    found = [evaluate([Path("m.onnx")], tmp_path, annotations, boxes=boxes, limit=limit) for limit in (None, 3)]

    assert [evaluation.conditions["images"] for evaluation in found] == [3, 2]


def test_random_weights_are_called_random(tmp_path, finders):
    annotations = make_people(tmp_path)
    finders["m.onnx"] = Finder(annotations, spec_of(), weights="random")

    notes = evaluate([Path("m.onnx")], tmp_path, annotations).notes()

    assert "m.onnx has random weights: its accuracy means nothing" in notes


def test_annotated_boxes_end_with_the_image():
    boxes = np.array([[-5.0, 2, 20, 10], [150, 100, 30, 40], [10, 10, 20, 30]])
    image: Any = SimpleNamespace(boxes_xywh=boxes, head_sizes=np.full(3, np.nan))

    assert annotated_boxes(image, SIZE_HW).tolist() == [[0, 2, 15, 12], [150, 100, 159, 119], [10, 10, 30, 40]]


def test_average_precision_is_what_pycocotools_gives_when_it_loads_the_files_itself(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = make_people(tmp_path, images=8, people=2)
    images = read_annotations(annotations).images
    rng = np.random.default_rng(0)
    found = [(image.keypoints[..., :2] + rng.normal(0, 5, (2, 17, 2)), rng.random(2)) for image in images]
    results = [
        {
            "image_id": image.image_id,
            "category_id": 1,
            "keypoints": np.concatenate([person, np.ones((17, 1))], 1).ravel().tolist(),
            "score": float(score),
        }
        for image, (xy, scores) in zip(images, found, strict=True)
        for person, score in zip(xy, scores, strict=True)
    ]
    reference = COCO(str(annotations))
    for entry in reference.dataset["annotations"]:
        entry["num_keypoints"] = 17
    evaluation = COCOeval(reference, reference.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()

    ours = average_precision(images, found, COCO17.sigmas)

    assert [-1 if x is None else x for x in ours.values()] == pytest.approx(evaluation.stats.tolist())
    assert 0.2 < evaluation.stats[0] < 0.9
    assert capsys.readouterr().out == ""


def test_without_pycocotools_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)

    with pytest.raises(MissingPackageError, match=r"edgepose\[workstation\]"):
        average_precision([], [], COCO17.sigmas)


def test_nobody_found_is_no_precision(tmp_path):
    images = read_annotations(make_people(tmp_path)).images
    nothing = [(np.empty((0, 17, 2)), np.empty(0)) for _ in images]

    assert average_precision(images, nothing, COCO17.sigmas)["AP"] == 0


def test_more_poses_than_coco_counts_change_nothing(tmp_path):
    images = read_annotations(make_people(tmp_path, images=1)).images
    xy = np.concatenate([images[0].keypoints[..., :2] + 3, np.random.default_rng(0).uniform(0, 100, (40, 17, 2))])
    scores = np.linspace(1, 0.1, len(xy))
    scores[1] = 0.12  # the second person is not among the surest

    figures = [
        average_precision(images, [(xy[rows], scores[rows])], COCO17.sigmas)
        for rows in (
            np.argsort(-scores),
            np.argsort(-scores)[:COUNTED],
        )
    ]

    assert figures[0] == figures[1]


def test_every_image_counts_even_one_with_nobody(tmp_path):
    empty = AnnotatedImage(
        9, "x", None, np.empty((0, 4)), np.empty(0), np.empty(0, bool), np.empty((0, 17, 3)), np.empty(0)
    )
    images = read_annotations(make_people(tmp_path)).images
    found = [(image.keypoints[..., :2], np.ones(2)) for image in images]
    stray = (np.zeros((1, 17, 2)), np.full(1, 2.0))

    figures = average_precision([*images, empty], [*found, stray], COCO17.sigmas)

    assert figures["AP"] == pytest.approx(6 / 7, abs=0.01)  # the surest pose of all is nobody's


# With a real file: a network that finds red and green dots.

DOTS = ("left_hand", "right_hand")


def make_dot_finder(folder: Path, name: str = "dots.onnx") -> Path:
    """An ONNX whose two heat maps are how red and how green the crop is, with its passport."""
    weight = np.array([[1, -1, -1], [-1, 1, -1]], np.float32).reshape(2, 3, 1, 1) / 255
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["crops", "w"], ["difference"]),
            helper.make_node("Relu", ["difference"], ["positive"]),
            helper.make_node("AveragePool", ["positive"], ["heatmaps"], kernel_shape=[4, 4], strides=[4, 4]),
        ],
        "dots",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, 64, 48])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["n", 2, 16, 12])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / name
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    write_passport(path, Passport(make_spec(mean=(0, 0, 0), std=(1, 1, 1)), "fp32", sha256_of(path), "by hand"))
    return path


def make_dots(folder: Path, images: int = 2) -> Path:
    """Pictures of a red and a green dot each, and their annotations."""
    folder.mkdir(exist_ok=True)
    entries, annotations = [], []
    for i in range(1, images + 1):
        picture = np.zeros((90, 70, 3), np.uint8)
        red, green = (20 + i, 30), (45, 60 - i)
        cv2.circle(picture, red, 3, (0, 0, 255), -1)
        cv2.circle(picture, green, 3, (0, 255, 0), -1)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        entries.append({"id": i, "file_name": f"{i}.png", "width": 70, "height": 90})
        annotation = {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": [5, 5, 60, 80], "area": 4000}
        annotations.append({**annotation, "keypoints": [*red, 2, *green, 2]})
    path = folder / "dots.json"
    category = {"id": 1, "name": "person", "keypoints": list(DOTS)}
    path.write_text(json.dumps({"images": entries, "categories": [category], "annotations": annotations}))
    return path


def run_evaluate(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_the_command_prints_a_table_and_notes_the_accuracy_in_the_passport(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")
    arguments = ("--engine", engine, "--images", annotations.parent, "--annotations", annotations)

    result = run_evaluate(*arguments, "--json", tmp_path / "figures.json")

    assert result.exit_code == 0, result.output
    assert "AP50" in result.stdout
    assert "2 people in 2 images of dots.json, boxes: annotated, no flip test" in result.stdout
    (entry,) = read_passport(engine).accuracy
    assert entry["AP50"] == pytest.approx(1)
    assert entry["annotations_sha256"] == sha256_of(annotations)
    assert (entry["images"], entry["people"], entry["flip_test"]) == (2, 2, False)
    assert json.loads((tmp_path / "figures.json").read_text())["models"][0]["figures"]["AP50"] == entry["AP50"]


def test_a_place_for_the_figures_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")
    measured: list[Any] = []
    monkeypatch.setattr(
        edgepose.evaluation.evaluate, "evaluate", lambda *arguments, **options: measured.append(arguments)
    )
    arguments = ("--engine", engine, "--images", annotations.parent, "--annotations", annotations)

    for place in (annotations.parent, annotations / "figures.json"):
        result = run_evaluate(*arguments, "--json", place)

        assert result.exit_code == 1
        assert result.stderr.startswith(f"edgepose: {annotations.parent}")
        assert result.stderr.count("\n") == 1
    assert measured == []


def test_figures_that_find_no_room_are_in_the_passport_all_the_same(tmp_path, monkeypatch):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")

    def no_room(evaluation: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(edgepose.evaluation.report, "table_of", no_room)
    result = run_evaluate("--engine", engine, "--images", annotations.parent, "--annotations", annotations)

    assert result.exit_code == 1
    assert len(read_passport(engine).accuracy) == 1


def test_a_second_run_replaces_its_figures_and_keeps_those_of_other_conditions(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")

    for flip_test in (False, True, False):
        record_accuracy(evaluate([engine], annotations.parent, annotations, flip_test=flip_test))

    entries = read_passport(engine).accuracy
    assert [entry["flip_test"] for entry in entries] == [True, False]

    evaluation = evaluate([engine], annotations.parent, annotations)
    (measured,) = evaluation.models
    record_accuracy(replace(evaluation, models=[replace(measured, backend="another")]))

    entries = read_passport(engine).accuracy
    assert [entry["backend"] for entry in entries] == [measured.backend] * 2 + ["another"]


def test_json_on_stdout_is_json_alone(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")

    result = run_evaluate(
        "--engine", engine, "--images", annotations.parent, "--annotations", annotations, "--json", "-"
    )

    assert json.loads(result.stdout)["conditions"]["people"] == 2


def test_unreadable_images_are_named_and_give_exit_status_3(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")
    (annotations.parent / "2.png").write_bytes(b"")

    result = run_evaluate("--engine", engine, "--images", annotations.parent, "--annotations", annotations)

    assert result.exit_code == 3
    assert "1 images could not be used" in result.stderr
    assert "2.png: the file is empty" in result.stderr
    assert read_passport(engine).accuracy[0]["images"] == 1


def test_bad_annotations_are_one_line_and_exit_status_1(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")
    annotations.write_bytes(annotations.read_bytes()[:100])

    result = run_evaluate("--engine", engine, "--images", annotations.parent, "--annotations", annotations)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"edgepose: {annotations}: not readable as JSON")
    assert result.stderr.count("\n") == 1
    assert read_passport(engine).accuracy == []


def test_a_missing_boxes_file_is_one_line(tmp_path):
    engine, annotations = make_dot_finder(tmp_path), make_dots(tmp_path / "pictures")

    result = run_evaluate(
        "--engine",
        engine,
        "--images",
        annotations.parent,
        "--annotations",
        annotations,
        "--boxes",
        tmp_path / "no.json",
    )

    assert result.exit_code == 1
    assert "no.json: No such file" in result.stderr


# What the networks of the reference data score is measured by other code: ../shared/data/README.md.


@needs_shared
def test_a_trained_network_scores_what_is_known_of_it(tmp_path):
    source = SHARED / "models" / "ultralight_simplepose_coco17_256x192.onnx"
    engine = tmp_path / source.name
    engine.write_bytes(source.read_bytes())
    spec = heatmap_spec("ultralight_simplepose", (256, 192), (64, 48))
    write_passport(engine, Passport(spec, "fp32", sha256_of(engine), "foreign"))
    coco = SHARED / "data" / "coco"

    (result,) = evaluate([engine], coco / "images", coco / "person_keypoints.json", threads=1).models

    assert result.figures["AP"] == pytest.approx(0.489, abs=0.005)
