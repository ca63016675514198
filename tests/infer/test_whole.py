import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.estimate.follow import Following
from edgepose.estimate.lift import Lifter
from edgepose.export.bottom_up import export_bottom_up
from edgepose.export.networks.lightweight_openpose import LightweightOpenPose
from edgepose.export.pair import Weights
from edgepose.infer.whole import infer_whole
from edgepose.io.images import read_image, write_image
from edgepose.io.sources import FileSource
from edgepose.io.video import VideoReader, video_file
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import OPENPOSE18, Skeleton
from edgepose.model.spec import Input, ModelSpec
from tests.evaluation.test_bottom_up import MAP_HW, Drawn


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        write_image(folder / name, np.full((*MAP_HW, 3), 90, np.uint8))
    (folder / "3.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def drawn() -> Drawn:
    network = Drawn(range(2))
    network.name, network.arithmetic = "drawn", "FP32"
    return network


def test_writes_everybody_in_cocos_form_and_names_what_cannot_be_read(drawn, images, tmp_path):
    report = infer_whole(drawn, sorted(images.iterdir()), folder=tmp_path / "out")

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert (report.images, report.people, len(report.unreadable)) == (2, 4, 1)
    assert [person["image_id"] for person in people] == [1, 1, 2, 2]
    assert all(len(person["keypoints"]) == 54 for person in people)
    assert all(person["score"] > 1 for person in people)  # the network's own, a sum
    assert "3.png" in report.unreadable[0]


def test_overlays_show_the_people(drawn, images, tmp_path):
    report = infer_whole(drawn, [images / "1.png"], folder=tmp_path / "out")

    (overlay,) = report.overlays
    assert overlay.name == "1.png"
    assert (read_image(overlay) != 90).any()


def test_a_point_that_was_not_found_is_zero_in_the_file(drawn, images, tmp_path):
    drawn.outputs["heatmaps"][0, 4] = 0  # right wrists

    infer_whole(drawn, [images / "1.png"], folder=tmp_path / "out", save_overlays=False)

    for person in json.loads((tmp_path / "out" / "keypoints.json").read_text()):
        assert person["keypoints"][12:15] == [0, 0, 0]
        assert np.isfinite(person["keypoints"]).all()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with video_file(tmp_path / "clip.mp4", 10) as video:
        for _ in range(3):
            video.write(np.full((*MAP_HW, 3), 90, np.uint8))
    return tmp_path / "clip.mp4"


def test_a_videos_frames_are_numbered_and_its_people_keep_their_ids(drawn, clip, tmp_path):
    report = infer_whole(drawn, [clip], folder=tmp_path / "out")

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert report.images == 3
    assert [(person["frame"], person["track_id"]) for person in people] == [
        (frame, track) for frame in range(3) for track in (1, 2)
    ]
    assert all(person["score"] > 1 for person in people)  # the network's own, a sum
    assert [path.name for path in report.overlays] == ["clip.mp4"]


def test_two_sources_are_watched_at_once_without_ids_where_none_are_wanted(drawn, clip, tmp_path):
    sources = [FileSource(clip), FileSource(clip)]

    report = infer_whole(drawn, [], sources=sources, following=Following(track=False), folder=tmp_path / "out")

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert [(source.frames, source.people) for source in report.sources] == [(3, 6), (3, 6)]
    assert not any("track_id" in person for person in people)


def test_a_video_that_cannot_be_read_is_named_and_the_images_are_kept(drawn, images, tmp_path):
    (images / "4.mp4").write_bytes(b"no video")

    report = infer_whole(drawn, [images / "1.png", images / "4.mp4"], folder=tmp_path / "out")

    assert report.images == 1
    assert "4.mp4" in report.unreadable[0]


def test_the_stages_are_timed(drawn, images, tmp_path):
    report = infer_whole(drawn, [images / "1.png"], folder=tmp_path / "out", save_overlays=False)

    assert list(report.seconds) == ["read", "letterbox", "network", "peaks", "grouping", "write"]


def test_the_command_takes_no_boxes_and_streams_lines(images, tmp_path):
    torch.manual_seed(0)
    picture = Input((64, 96), "bgr", (128.0,) * 3, (256.0,) * 3, "letterbox", "center", 128)
    spec = ModelSpec("toy", picture, Fields((8, 12)), OPENPOSE18)
    export_bottom_up(LightweightOpenPose().eval(), spec, Weights("random"), tmp_path)
    arguments = ["infer", "--engine", str(tmp_path / "toy.onnx"), "--input", str(images / "1.png")]

    refused = CliRunner().invoke(main, [*arguments, "--boxes", str(images / "1.png")])
    lines = CliRunner().invoke(main, [*arguments, "--out", "-"])

    assert refused.exit_code == 2
    assert "go with crops of people" in refused.output
    assert lines.exit_code == 0, lines.output
    assert json.loads(lines.stdout.splitlines()[0])["image_id"] == 1


def test_a_table_has_a_line_for_each_person(drawn, images):
    stream = io.StringIO()

    infer_whole(drawn, [images / "1.png", images / "2.png"], stream=stream, table=True)

    assert len(stream.getvalue().splitlines()) == 1 + 4


def two_points(inputs):
    points = inputs["points"][:, -1]
    return {"xyz": np.concatenate([points, np.zeros_like(points[..., :1])], axis=2)}


NOSE_AND_NECK = Skeleton("ends", ("nose", "neck"), flip_pairs=())
FLAT = Lifter(two_points, Lift(1, root="neck"), NOSE_AND_NECK, NOSE_AND_NECK)


def test_people_of_pictures_and_videos_get_positions(drawn, images, tmp_path):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for _ in range(3):
            writer.write(np.full((*MAP_HW, 3), 90, np.uint8))

    report = infer_whole(drawn, [images / "1.png", tmp_path / "clip.mp4"], folder=tmp_path / "out", lifter=FLAT)

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert len(people) == 2 * 4
    assert all(person["xyz_skeleton"] == "ends" and len(person["xyz"]) == 6 for person in people)
    assert [read_width(path) for path in report.overlays] == [WITH_SPACE] * 2


@pytest.mark.parametrize("live", [False, True])
def test_people_without_positions_are_told_once_with_the_reason(live, drawn, images, clip, tmp_path):
    class Camera(FileSource):
        pass

    Camera.live = live
    nose = np.unravel_index(drawn.outputs["heatmaps"][0, 0].argmax(), MAP_HW)
    drawn.outputs["heatmaps"][0, 0, :, nose[1] - 20 : nose[1] + 20] = 0  # of one of the two

    report = infer_whole(
        drawn, [images / "1.png"], sources=[Camera(clip)], folder=tmp_path / "out", save_overlays=False, lifter=FLAT
    )

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    looks = len(people) // 2  # the picture and three frames, of which a camera may drop some
    assert [person["xyz"] is None for person in people].count(True) == looks
    (line,) = report.warnings()
    assert line.startswith(f"{looks} of {2 * looks} people have no xyz: key points that the lifter wants")
    assert f"(nose of {looks})" in line


def test_people_of_whom_all_was_found_have_no_such_line(drawn, images, tmp_path):
    report = infer_whole(drawn, [images / "1.png"], folder=tmp_path / "out", save_overlays=False, lifter=FLAT)

    assert report.warnings() == []


def test_positions_that_are_not_finite_have_a_line_of_their_own(drawn, images, tmp_path):
    def overflows(inputs):
        return {"xyz": np.full((len(inputs["points"]), 2, 3), np.inf, np.float32)}

    lifter = Lifter(overflows, FLAT.head, NOSE_AND_NECK, NOSE_AND_NECK)

    report = infer_whole(drawn, [images / "1.png"], folder=tmp_path / "out", save_overlays=False, lifter=lifter)

    assert report.warnings() == [
        "2 of 2 people have no xyz: the lifter gave numbers that are not finite. Take its FP32 file"
    ]


WITH_SPACE = MAP_HW[1] + 3 * MAP_HW[0] // 2  # the picture, and two views of the space beside it


def read_width(path: Path) -> int:
    image = next(iter(VideoReader(path))) if path.suffix == ".mp4" else read_image(path)
    return image.shape[1]


def test_a_live_sources_overlay_shows_positions(drawn, tmp_path):
    class Camera(FileSource):
        live = True

    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        writer.write(np.full((*MAP_HW, 3), 90, np.uint8))

    report = infer_whole(drawn, [], sources=[Camera(tmp_path / "clip.mp4")], folder=tmp_path / "out", lifter=FLAT)

    people = json.loads((tmp_path / "out" / "keypoints.json").read_text())
    assert [len(person["xyz"]) for person in people] == [6, 6]
    assert read_width(report.overlays[0]) == WITH_SPACE
