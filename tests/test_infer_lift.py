"""infer with a lifter: positions in the records, and beside the picture."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.errors import MissingPackageError
from edgepose.estimate.lift import Lifter
from edgepose.infer.crops import infer
from edgepose.io.table import to_table
from edgepose.io.video import VideoReader, video_file
from edgepose.model.heads.lift import Lift
from tests.makers import TWO_POINTS, dots_image, write_toy_model
from tests.walker import make_tracks_json

pytest.importorskip("openvino")


def flat(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """A lifter that gives the window's first frame, without depth."""
    points = inputs["points"][:, 0]
    return {"xyz": np.concatenate([points, np.zeros_like(points[..., :1])], axis=2)}


LIFTER = Lifter(flat, Lift(3, root="left_hand"), TWO_POINTS, TWO_POINTS)


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    return write_toy_model(tmp_path / "model" / "m.onnx")


def people_in(folder: Path) -> list[dict]:
    return json.loads((folder / "keypoints.json").read_text())


def write_clip(path: Path, steps: int = 4) -> None:
    with video_file(path, fps=10) as writer:
        for step in range(steps):
            writer.write(dots_image((8, 20), (20 + 2 * step, 40)))


def test_a_pictures_people_get_positions(model, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])

    infer(load_backend(model), [tmp_path / "7.png"], folder=tmp_path / "out", save_overlays=False, lifter=LIFTER)

    (person,) = people_in(tmp_path / "out")
    (left_x, left_y, _), (right_x, right_y, _) = np.reshape(person["keypoints"], (2, 3))
    expected = [0, 0, 0, (right_x - left_x) * 2 / 48, (right_y - left_y) * 2 / 48, 0]  # the picture is 48 px wide
    assert np.allclose(person["xyz"], expected, atol=1e-3)
    assert person["xyz_skeleton"] == "two"


def test_a_videos_people_are_lifted_over_time(model, tmp_path):
    write_clip(tmp_path / "clip.mp4")

    infer(load_backend(model), [tmp_path / "clip.mp4"], folder=tmp_path / "out", save_overlays=False, lifter=LIFTER)

    people = people_in(tmp_path / "out")
    assert [person["frame"] for person in people] == [0, 1, 2, 3]
    apart = [np.reshape(person["keypoints"], (2, 3))[1, 0] - person["keypoints"][0] for person in people]
    lifted = [person["xyz"][3] * 48 / 2 for person in people]
    assert np.allclose(lifted, [apart[0], apart[0], apart[1], apart[2]], atol=0.01)  # each from the frame before


def test_a_video_of_one_frame_is_lifted_from_it(model, tmp_path):
    write_clip(tmp_path / "clip.mp4", steps=1)

    infer(load_backend(model), [tmp_path / "clip.mp4"], folder=tmp_path / "out", save_overlays=False, lifter=LIFTER)

    (person,) = people_in(tmp_path / "out")
    apart = np.reshape(person["keypoints"], (2, 3))[1, 0] - person["keypoints"][0]
    assert person["xyz"][3] * 48 / 2 == pytest.approx(apart, abs=0.01)


def test_positions_are_drawn_beside_pictures_and_videos(model, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws positions; install edgepose[plot]")
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])
    write_clip(tmp_path / "clip.mp4", steps=2)

    report = infer(
        load_backend(model), [tmp_path / "7.png", tmp_path / "clip.mp4"], folder=tmp_path / "out", lifter=LIFTER
    )

    picture = cv2.imread(str(report.overlays[0]))
    frames = list(VideoReader(report.overlays[1]))
    assert picture.shape == (64, 48 + 96, 3)
    assert [frame.shape for frame in frames] == [(64, 48 + 96, 3)] * 2
    assert picture[:, 48:].mean() > 200  # paper


def test_a_missing_matplotlib_is_told_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])

    with pytest.raises(MissingPackageError, match=r"edgepose\[plot\]"):
        infer(load_backend(model), [tmp_path / "7.png"], folder=tmp_path / "out", lifter=LIFTER)

    assert not (tmp_path / "out" / "overlays").exists()


def test_a_file_that_is_no_lifter_is_one_line(model, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])

    result = CliRunner().invoke(main, ["infer", "--engine", str(model), "--lift", str(model), str(tmp_path / "7.png")])

    assert result.exit_code == 1
    assert "lifts no key points into space (its head is heatmaps)" in result.output


def test_a_lifter_in_a_networks_place_is_told_where_it_goes(tiny_lifter, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])

    result = CliRunner().invoke(main, ["infer", "--engine", str(tiny_lifter.fp32), str(tmp_path / "7.png")])

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].endswith("; a lifter goes behind such a network: --lift")


def test_a_lifter_for_another_skeleton_is_one_line(model, tiny_lifter, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])
    arguments = ["--engine", model, "--lift", tiny_lifter.fp32, tmp_path / "7.png", "--no-save-overlay", "-o", tmp_path]

    result = CliRunner().invoke(main, ["infer", *map(str, arguments)])

    assert result.exit_code == 1
    assert "two key points cannot be read as body15" in result.output
    assert result.output.endswith(": give key points that tell them, or a lifter that wants no others\n")


def test_tracks_of_another_skeleton_are_one_line_with_the_files_name(tiny_lifter, tmp_path):
    tracks = make_tracks_json(2)
    tracks["categories"][0]["keypoints"] = [f"p{i}" for i in range(17)]
    (tmp_path / "tracks.json").write_text(json.dumps(tracks))
    arguments = ["--engine", tiny_lifter.fp32, "--annotations-3d", tmp_path / "tracks.json"]

    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments)])

    assert result.exit_code == 1
    assert result.output.startswith("edgepose: tracks.json's 17 key points cannot be read as body15: there is no ")
    assert result.output.count("\n") == 1


def test_a_lifter_of_another_frame_count_than_its_passport_says_is_one_line(model, tiny_lifter, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])
    (tmp_path / "tracks.json").write_text(json.dumps(make_tracks_json(2)))
    lifter = tmp_path / "lifter.onnx"
    lifter.write_bytes(tiny_lifter.fp32.read_bytes())
    passport = json.loads(Path(f"{tiny_lifter.fp32}.json").read_text())
    passport["spec"]["head"]["frames"] = 81
    Path(f"{lifter}.json").write_text(json.dumps(passport))

    for arguments in (
        ["infer", "--engine", model, "--lift", lifter, tmp_path / "7.png", "--no-save-overlay", "-o", tmp_path / "out"],
        ["evaluate", "--engine", lifter, "--annotations-3d", tmp_path / "tracks.json"],
    ):
        result = CliRunner().invoke(main, [str(word) for word in arguments])

        assert result.exit_code == 1
        assert re.fullmatch(
            r"edgepose: \S+lifter.onnx: the graph's points are \?, 27, 15, 2, its passport says N, 81, 15, 2: .*\n",
            result.output,
        )


def test_evaluate_tells_mm_and_notes_them(tiny_lifter, tmp_path):
    tracks = tmp_path / "tracks.json"
    tracks.write_text(json.dumps(make_tracks_json(30)))
    engine = tmp_path / "lifter.onnx"
    for suffix in ("", ".json"):
        Path(f"{engine}{suffix}").write_bytes(Path(f"{tiny_lifter.fp32}{suffix}").read_bytes())

    result = CliRunner().invoke(
        main, ["evaluate", "--engine", str(engine), "--annotations-3d", str(tracks), "--flip-test"]
    )
    inspected = CliRunner().invoke(main, ["inspect", str(engine)])

    assert result.exit_code == 0, result.output
    assert "P-MPJPE mm" in result.output
    assert "30 poses" in result.output
    assert "poses 30, MPJPE_mm" in inspected.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--engine", "m.onnx"], "or for lifters --annotations-3d"),
        (["evaluate", "--engine", "m.onnx", "--annotations-3d", "t.json", "--images", "x"], "leave out --images"),
        (["calibrate", "--tracks", "t.json", "--images", "x"], "give --images, or for a lifter --tracks"),
        (["calibrate"], "give --images, or for a lifter --tracks"),
        (["export", "--model", "lifter_tiny", "--decoder", "dark"], "lifter_tiny takes --weights"),
        (["export", "--model", "hrnet_w32", "--statistics", "s.json"], "--statistics goes with a lifter"),
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(arguments, message):
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert message in result.output


def test_a_table_has_columns_of_positions(model, tmp_path):
    cv2.imwrite(str(tmp_path / "7.png"), dots_image((8, 20), (28, 40))[..., ::-1])
    stream = io.StringIO()

    infer(load_backend(model), [tmp_path / "7.png"], stream=stream, table=True, lifter=LIFTER)

    head, person = csv.reader(io.StringIO(stream.getvalue()))
    columns = [f"{name}_{part}_m" for name in TWO_POINTS.keypoints for part in "xyz"]
    assert head[-6:] == columns
    assert person[-6:-3] == ["0.0", "0.0", "0.0"]
    assert len(person) == len(head)


def test_a_table_leaves_positions_that_were_not_found_empty():
    stream = io.StringIO()
    write = to_table(stream, ["head"], ["head"])
    person = {"bbox": [1, 2, 3, 4], "score": 0.5, "keypoints": [1, 2, 0.5], "xyz": None}

    write({"file_name": "a.png", "people": [person, {**person, "xyz": [None, None, None]}]})

    _, *people = csv.reader(io.StringIO(stream.getvalue()))
    assert [row[-4:] for row in people] == [["0.5", "", "", ""]] * 2
