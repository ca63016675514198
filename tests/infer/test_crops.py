from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgepose.cli import SOME_UNREADABLE, main
from edgepose.errors import BackendError, EdgeposeError
from edgepose.io.images import read_image
from edgepose.io.video import VideoReader, VideoWriter, video_file
from tests.makers import dots_image, smooth_image, with_orientation, write_toy_model

pytest.importorskip("openvino")


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    return write_toy_model(tmp_path / "model" / "m.onnx")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """000007.png (two dots at (8, 20) and (28, 40)), b.jpg and c.jpg."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_png(folder / "000007.png", dots_image((8, 20), (28, 40)))
    for name in ("b.jpg", "c.jpg"):
        cv2.imwrite(str(folder / name), smooth_image())
    return folder


def write_png(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1])


def whole_unless_told(arguments: tuple[object, ...]) -> list[str]:
    """The pictures here show no people that a detector knows: each is one person, unless boxes are given."""
    named = list(map(str, arguments))
    return named if {"--boxes", "--detector"} & set(named) else ["--boxes", "whole", *named]


def infer(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["infer", *whole_unless_told(arguments)], input=stdin)


def people_in(folder: Path) -> list[dict]:
    return json.loads((folder / "keypoints.json").read_text())


def test_writes_coco_results_and_overlays_and_prints_the_stages(model, pictures, tmp_path):
    out = tmp_path / "out"

    result = infer("--engine", model, "--input", pictures, "--out", out)

    assert result.exit_code == 0, result.output
    first, *others = people_in(out)
    assert len(others) == 2
    assert first == {
        "image_id": 7,
        "file_name": str(pictures / "000007.png"),
        "category_id": 1,
        "bbox": [0, 0, 48, 64],
        "score": 1,
        "keypoints": [8, 20, 1, 28, 40, 1],
    }
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["000007.png", "b.jpg", "c.jpg"]
    assert read_image(out / "overlays" / "b.jpg").shape == (120, 160, 3)
    assert "images: 3, people: 3" in result.stdout
    for stage in ("read", "crop", "network", "decode", "draw", "write"):
        assert stage in result.stdout
    assert result.stderr == ""


def test_every_input_given_after_input_is_taken(model, pictures, tmp_path):
    files = sorted(pictures.iterdir())

    infer("--engine", model, "--no-save-overlay", "--out", tmp_path / "out", "--input", *files)

    assert len(people_in(tmp_path / "out")) == 3
    assert not (tmp_path / "out" / "overlays").exists()


def test_the_flip_test_option_reaches_the_backend(model, pictures, tmp_path):
    plain, flipped = tmp_path / "plain", tmp_path / "flipped"

    infer("--engine", model, "--input", pictures / "b.jpg", "--out", plain)
    infer("--engine", model, "--input", pictures / "b.jpg", "--out", flipped, "--flip-test")

    assert people_in(plain) != people_in(flipped)


def test_boxes_are_used_scored_and_the_unusable_ones_counted(model, pictures, tmp_path):
    rows = [[0, 0, 48, 64], [10, 5, 0, 5], [500, 500, 20, 20], [-30, -30, 20, 20]]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 7, "category_id": 1, "bbox": row, "score": 0.5} for row in rows]))

    result = infer("--engine", model, "--input", pictures / "000007.png", "--boxes", boxes, "--out", tmp_path / "out")

    (person,) = people_in(tmp_path / "out")
    assert (person["bbox"], person["score"]) == ([0, 0, 48, 64], 0.5)
    assert "3 boxes left out" in result.stderr
    assert result.exit_code == 0


def test_boxes_below_the_least_score_are_left_out_of_images_and_videos(model, pictures, tmp_path):
    with video_file(tmp_path / "7.mp4", fps=10) as writer:
        for _ in range(8):
            writer.write(smooth_image())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        json.dumps(
            [
                {"image_id": 7, "bbox": [0, 0, 40, high], "score": score}
                for high, score in zip((30, 40, 50), (0.9, 0.5, 0.49), strict=True)
            ]
        )
    )

    for source in (pictures / "000007.png", tmp_path / "7.mp4"):
        infer("--engine", model, "--input", source, "--boxes", boxes, "--min-box-score", 0.5, "--out", tmp_path / "out")

        assert [person["bbox"][3] for person in people_in(tmp_path / "out")] == [30, 40]


def test_images_without_people_give_an_empty_list(model, pictures, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": [{"id": 7, "file_name": "000007.png"}], "annotations": []}))

    result = infer("--engine", model, "--input", pictures / "000007.png", "--boxes", boxes, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert people_in(tmp_path / "out") == []
    assert "images: 1, people: 0" in result.stdout


def test_images_of_the_same_name_are_kept_apart(model, pictures, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.jpg").write_bytes((pictures / "b.jpg").read_bytes())

    infer("--engine", model, "--input", pictures / "b.jpg", tmp_path / "more", "--out", tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["b-2.jpg", "b.jpg"]
    ids = [person["image_id"] for person in people_in(tmp_path / "out")]
    assert ids == [str(pictures / "b.jpg"), str(tmp_path / "more" / "b.jpg")]


def test_pictures_that_exif_would_turn_are_told(model, pictures, tmp_path):
    for name in ("b.jpg", "c.jpg"):
        (pictures / name).write_bytes(with_orientation((pictures / name).read_bytes(), 6))

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert result.stderr.startswith("2 images note a rotation in EXIF, which was ignored")


def test_an_overlay_never_replaces_an_input(model, tmp_path):
    folder = tmp_path / "out" / "overlays"
    folder.mkdir(parents=True)
    write_png(folder / "a.png", smooth_image())
    before = (folder / "a.png").read_bytes()

    result = infer("--engine", model, "--input", folder, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert "would replace it" in result.stderr
    assert (folder / "a.png").read_bytes() == before


@pytest.mark.parametrize("arguments", [("--out", "-"), ("--format", "jsonl")])
def test_streams_a_line_for_each_image_and_keeps_stdout_clean(model, pictures, arguments):
    (pictures / "broken.jpg").write_bytes(b"no image")

    result = infer("--engine", model, "--input", pictures, *arguments)

    seven, _, broken, _ = [json.loads(line) for line in result.stdout.splitlines()]
    assert (seven["image_id"], seven["width"], seven["height"]) == (7, 48, 64)
    assert seven["people"][0]["keypoints"] == [8, 20, 1, 28, 40, 1]
    assert "not a readable image" in broken["error"]
    assert "images: 3" in result.stderr
    assert result.exit_code == SOME_UNREADABLE


def test_lines_go_to_stdout_and_overlays_to_the_folder(model, pictures, tmp_path):
    result = infer("--engine", model, "--input", pictures / "b.jpg", "--format", "jsonl", "--out", tmp_path / "out")

    assert len(result.stdout.splitlines()) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["overlays"]


def test_reads_paths_from_stdin(model, pictures, tmp_path):
    stdin = f"{pictures / '000007.png'}\n\n{pictures / 'missing.jpg'}\n"

    result = infer("--engine", model, "--input", "-", "--out", tmp_path / "out", stdin=stdin)

    assert [person["image_id"] for person in people_in(tmp_path / "out")] == [7]
    assert "missing.jpg" in result.stderr
    assert result.exit_code == SOME_UNREADABLE


def test_a_video_gives_poses_per_frame_and_an_overlay_video(model, tmp_path):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for index in range(5):
            writer.write(dots_image((4 * index, 20), (28, 40)))

    result = infer("--engine", model, "--input", tmp_path / "clip.mp4", "--out", tmp_path / "out")

    people = people_in(tmp_path / "out")
    assert [person["frame"] for person in people] == [0, 1, 2, 3, 4]
    assert people[3]["image_id"] == "clip.mp4/3"
    np.testing.assert_allclose([person["keypoints"][0] for person in people], [0, 4, 8, 12, 16], atol=1)
    assert len(list(VideoReader(tmp_path / "out" / "overlays" / "clip.mp4"))) == 5
    assert "images: 5, people: 5" in result.stdout


def test_boxes_of_a_video_are_by_frame_number(model, tmp_path):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for _ in range(3):
            writer.write(smooth_image())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "bbox": [0, 0, 40, 50]}, {"image_id": 1, "bbox": [9, 9, 40, 50]}]))

    infer("--engine", model, "--input", tmp_path / "clip.mp4", "--boxes", boxes, "--out", tmp_path / "out")

    assert [person["frame"] for person in people_in(tmp_path / "out")] == [1, 1]


def test_broken_files_are_named_and_the_others_done(model, pictures, tmp_path):
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "cut.jpg").write_bytes((pictures / "b.jpg").read_bytes()[:900])
    (pictures / "bad.mp4").write_bytes(b"hello")

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / "out")

    assert result.exit_code == SOME_UNREADABLE
    assert len(people_in(tmp_path / "out")) == 3
    assert [name for name in ("empty.jpg", "cut.jpg", "bad.mp4") if name not in result.stderr] == []
    assert len(result.stderr.splitlines()) == 3


def test_nothing_readable_is_an_error_and_leaves_nothing(model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"hello")

    result = infer("--engine", model, "--input", tmp_path / "a.jpg", "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_random_weights_are_told_once(tmp_path, pictures):
    model = write_toy_model(tmp_path / "m.onnx", weights="random")

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / "out")

    assert result.stderr.count("weights are random") == 1


@pytest.mark.parametrize("out", ["taken", "taken/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_said_before_any_work(model, pictures, tmp_path, out):
    (tmp_path / "taken").write_bytes(b"a file")

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / out)

    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert out.split("/")[-1] in result.stderr or "taken" in result.stderr


@pytest.mark.parametrize(
    ("failure", "words"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left on device"), (BackendError("no GPU"), "no GPU")],
)
def test_what_ends_a_run_early_is_one_line_and_keeps_what_was_found(
    model, pictures, tmp_path, monkeypatch, failure, words
):
    def fail(image: np.ndarray, *others: object) -> np.ndarray:
        if image.shape == (120, 160, 3):  # not the first picture
            raise failure
        return image

    monkeypatch.setattr("edgepose.infer.crops.draw_poses", fail)

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert words in result.stderr
    assert "after 2 images or frames" in result.stderr
    assert str(tmp_path / "out" / "keypoints.partial.json") in result.stderr
    assert len(result.stderr.splitlines()) == 1
    people = json.loads((tmp_path / "out" / "keypoints.partial.json").read_text())
    assert [person["image_id"] for person in people] == [7, "b.jpg"]
    assert not (tmp_path / "out" / "keypoints.json").exists()


def run(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from edgepose.cli import main; main()", "infer"]
    command += whole_unless_told(arguments)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_full_disk_behind_stdout_is_one_line(model, pictures):
    with open("/dev/full", "w") as full:
        process = run("--engine", model, "--input", pictures, "--out", "-", stdout=full)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 1
    assert stderr.startswith("edgepose: output: No space left on device")
    assert len(stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_traceback(model, pictures):
    process = run("--engine", model, "--input", *[pictures / "b.jpg"], "--out", "-", stdout=subprocess.PIPE)
    process.stdout.close()

    stderr = process.stderr.read()

    assert process.wait(timeout=60) == 1
    assert "Traceback" not in stderr


def test_ctrl_c_keeps_what_was_found_and_says_how_far_it_came(model, tmp_path):
    out = tmp_path / "out"
    with video_file(tmp_path / "long.mp4", fps=10) as writer:
        for _ in range(3000):
            writer.write(np.zeros((64, 48, 3), np.uint8))
    process = run("--engine", model, "--input", tmp_path / "long.mp4", "--out", out, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("overlays/.edgepose-*")) and time.monotonic() < deadline:
        time.sleep(0.01)

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr.startswith("interrupted after ")
    assert len(stderr.splitlines()) == 1
    left = {path.name for path in out.rglob("*") if path.is_file()}
    assert left - {"long.partial.mp4"} == {"keypoints.partial.json"}  # the video, if a frame of it was written
    people = json.loads((out / "keypoints.partial.json").read_text())
    count = int(stderr.split()[2])
    assert len(people) in (count, count + 1)  # the interrupt may fall between writing and counting
    assert "keypoints.partial.json" in stderr


def test_a_run_to_the_end_removes_what_an_interrupted_one_left(model, pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keypoints.partial.json").write_text("[]")

    infer("--engine", model, "--input", pictures, "--no-save-overlay", "--out", tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["keypoints.json"]


def test_an_overlay_that_cannot_be_written_costs_no_key_points(model, pictures, tmp_path):
    cv2.imwrite(str(pictures / "a.tiff"), np.zeros((2, 70000, 3), np.uint8))

    result = infer("--engine", model, "--input", pictures, "--out", tmp_path / "out")

    assert result.exit_code == SOME_UNREADABLE
    assert len(people_in(tmp_path / "out")) == 4
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 3
    assert "70000x2" in result.stderr


def test_an_overlay_video_that_cannot_be_written_costs_no_key_points(model, tmp_path, monkeypatch):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for _ in range(3):
            writer.write(smooth_image())

    def refuse(writer: VideoWriter, frame: np.ndarray) -> None:
        raise EdgeposeError("too large")

    monkeypatch.setattr(VideoWriter, "write", refuse)

    result = infer("--engine", model, "--input", tmp_path / "clip.mp4", "--out", tmp_path / "out")

    assert result.exit_code == SOME_UNREADABLE
    assert len(people_in(tmp_path / "out")) == 3
    assert list((tmp_path / "out" / "overlays").iterdir()) == []
    assert result.stderr.count("too large") == 1


def test_boxes_of_a_video_need_no_announced_length(model, tmp_path, monkeypatch):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        for _ in range(3):
            writer.write(smooth_image())
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 2, "bbox": [0, 0, 40, 50]}]))
    set_up = VideoReader.__init__

    def without_length(reader: VideoReader, path: Path) -> None:
        set_up(reader, path)
        reader.length = 0

    monkeypatch.setattr(VideoReader, "__init__", without_length)

    infer("--engine", model, "--input", tmp_path / "clip.mp4", "--boxes", boxes, "--out", tmp_path / "out")

    assert [person["frame"] for person in people_in(tmp_path / "out")] == [2]


def test_boxes_of_frames_that_a_video_has_not_are_refused(model, tmp_path):
    with video_file(tmp_path / "clip.mp4", fps=10) as writer:
        writer.write(smooth_image())
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 7, "bbox": [0, 0, 40, 50]}]))

    result = infer(
        "--engine", model, "--input", tmp_path / "clip.mp4", "--boxes", tmp_path / "boxes.json", "--out", "-"
    )

    assert result.exit_code == 1
    assert "none of the 1 frames" in result.stderr


def test_a_box_of_no_width_in_float32_is_left_out(model, pictures, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 7, "bbox": [20.1, 10, 0.001, 50]}]))

    result = infer("--engine", model, "--input", pictures / "000007.png", "--boxes", boxes, "--out", tmp_path / "out")

    assert result.exit_code == 0
    assert people_in(tmp_path / "out") == []
    assert "1 boxes left out" in result.stderr


def test_zero_bytes_between_paths_are_one_line(model, tmp_path):
    result = infer("--engine", model, "--input", "-", "--out", "-", stdin="a.jpg\0b.jpg\0")

    assert result.exit_code == 1
    assert "-print0" in result.stderr


def test_the_help_says_that_stdout_gets_lines():
    text = " ".join(infer("--help").stdout.split())

    assert "- for JSON lines on stdout" in text
    assert "lines with --out -" in text
