from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import edgepose.benchmarks.demo.run
from edgepose.benchmarks.demo.run import Demo, run_demo
from edgepose.cli import main
from edgepose.errors import InputError
from edgepose.export.drawn.people import make_pose, write_people
from edgepose.export.drawn.person import KEYPOINTS
from edgepose.io.annotations import read_annotations
from edgepose.io.images import read_image
from edgepose.model.passport import read_passport


@pytest.fixture
def few_people(monkeypatch):
    make_it_small(monkeypatch)


def make_it_small(patch: pytest.MonkeyPatch) -> None:
    for name, value in (("CALIBRATION_PEOPLE", 8), ("EVALUATION_PEOPLE", 6), ("SHOWN", 2), ("SPEED_SECONDS", 0.05)):
        patch.setattr(edgepose.benchmarks.demo.run, name, value)


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory) -> tuple[Path, Demo]:
    """The folder in which the demo ran, and what it made in the folder's own `out`."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        make_it_small(patch)
        patch.chdir(folder)
        return folder, run_demo(Path("out"))


def test_the_demo_leaves_models_figures_overlays_and_a_page(small_demo, monkeypatch):
    folder, demo = small_demo
    monkeypatch.chdir(folder)

    assert [each.precision for each in demo.evaluation.models] == ["fp32", "fp16", "int8"]
    assert demo.evaluation.conditions["people"] == 6
    assert all(each.figures["AP"] is not None for each in demo.evaluation.models)
    assert all(len(read_passport(each.model).accuracy) == 1 for each in demo.evaluation.models)
    assert len(list(demo.overlays.glob("*.jpg"))) == 2 * 3
    page = demo.page.read_text()
    in_space = 3 if find_spec("matplotlib") else 0
    assert page.count("data:image/jpeg;base64,") == 2 * 3 + 1 + in_space
    assert "INT8 openvino" in page
    assert json.loads((folder / "out" / "accuracy.json").read_text())["conditions"]["images"] == 6


def test_the_demo_runs_on_the_users_pictures_and_measures_on_others_than_it_calibrates_with(tmp_path, few_people):
    annotations = write_people(tmp_path / "mine", 7, seed=5)
    (annotations.parent / "002.jpg").write_bytes(b"damaged")
    data = json.loads(annotations.read_bytes())
    data["annotations"][3]["bbox"][2] = 0
    annotations.write_text(json.dumps(data))
    before = annotations.read_bytes()

    arguments = ["demo", "--out", tmp_path / "out", "--images", annotations.parent, "--annotations", annotations]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])

    assert result.exit_code == 0, result.output
    assert "2 people in 2 images of measured.json" in result.stdout
    assert "1 images could not be used" in result.stderr
    assert "1 boxes left out" in result.stderr
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2 * 3
    assert (tmp_path / "out" / "index.html").as_uri() in result.stdout
    assert [image.image_id for image in read_annotations(tmp_path / "out" / "measured.json").images] == [2, 4, 6]
    assert annotations.read_bytes() == before


def test_one_picture_is_too_few(tmp_path):
    annotations = write_people(tmp_path / "mine", 1, seed=5)

    with pytest.raises(InputError, match="only one image"):
        run_demo(tmp_path / "out", images=annotations.parent, annotations=annotations)


def test_annotations_in_the_output_folder_stay_as_they_are(tmp_path, monkeypatch):
    annotations = write_people(tmp_path, 4, seed=5)
    before = annotations.read_bytes()
    for name in ("measured.json", "accuracy.json"):
        (tmp_path / name).write_bytes(before)
    monkeypatch.setattr(edgepose.benchmarks.demo.run, "export_model", _not_reached)

    for name in ("measured.json", "accuracy.json"):
        with pytest.raises(InputError, match="another name"):
            run_demo(tmp_path, images=tmp_path, annotations=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(AssertionError, match="not reached"):
        run_demo(tmp_path, images=tmp_path, annotations=annotations)
    assert annotations.read_bytes() == before


def test_a_folder_of_other_pictures_is_noticed_before_the_work(tmp_path, monkeypatch):
    annotations = write_people(tmp_path / "mine", 4, seed=5)
    (tmp_path / "wrong").mkdir()
    monkeypatch.setattr(edgepose.benchmarks.demo.run, "export_model", _not_reached)

    for folder in ("wrong", "nowhere"):
        with pytest.raises(InputError, match=rf"{folder} has none of the images 001\.jpg, …"):
            run_demo(tmp_path / "out", images=tmp_path / folder, annotations=annotations)


def test_a_file_in_place_of_the_output_folder_is_one_line(tmp_path):
    (tmp_path / "out").write_bytes(b"mine")

    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"edgepose: {tmp_path / 'out'}: File exists")
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "out").read_bytes() == b"mine"


def _not_reached(*arguments, **options):
    raise AssertionError("not reached")


def test_pictures_need_annotations(tmp_path):
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "out"), "--images", str(tmp_path)])

    assert result.exit_code == 2
    assert "--images and --annotations go together" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_same_seed_draws_the_same_people(tmp_path):
    first, again, other = (write_people(tmp_path / name, 3, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))

    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert (first.parent / "001.jpg").read_bytes() == (again.parent / "001.jpg").read_bytes()


def test_people_are_drawn_where_their_annotations_say(tmp_path):
    path = write_people(tmp_path, 20, seed=3)

    for image in read_annotations(path).images:
        height, width = read_image(tmp_path / image.file_name).shape[:2]
        left, top, box_width, box_height = image.boxes_xywh[0]
        labelled = image.keypoints[0, image.keypoints[0, :, 2] > 0, :2]
        assert image.size_wh == (width, height)
        assert len(labelled) >= 14
        assert (labelled >= (left, top)).all()
        assert (labelled <= (left + box_width, top + box_height)).all()


def test_poses_have_the_proportions_of_a_person():
    rng = np.random.default_rng(0)
    at = {name: i for i, name in enumerate(KEYPOINTS)}

    for pose in (make_pose(rng) for _ in range(50)):
        for side in ("left", "right"):
            thigh = np.linalg.norm(pose[at[f"{side}_hip"], :2] - pose[at[f"{side}_knee"], :2])
            forearm = np.linalg.norm(pose[at[f"{side}_elbow"], :2] - pose[at[f"{side}_wrist"], :2])
            assert thigh == pytest.approx(0.25)
            assert forearm == pytest.approx(0.15)
        assert pose[at["head_top"], 1] < pose[at["left_ankle"], 1]  # y is down
        assert pose[[at["nose"], at["left_ear"]], 2].tolist() == [0, 0]


def test_the_demo_writes_nowhere_else(small_demo):
    assert [path.name for path in small_demo[0].iterdir()] == ["out"]
