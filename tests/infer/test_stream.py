from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.estimate.follow import Followers, Following
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_live import LiveLifter
from edgepose.infer.stream import LiveOutput, SourceReport, watch_sources
from edgepose.io.sources import Shot
from edgepose.io.video import VideoReader
from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import COCO17
from edgepose.timing import StageTimes
from tests.estimate.fakes import ColourDetector, FixedPose, picture_of


class Frames:
    """A source of these images; an exception among them is raised."""

    fps = 10.0

    def __init__(self, name: str, images: list[Any], *, live: bool = False) -> None:
        self.name, self.images, self.live, self.length = name, images, live, len(images)
        self.notes: list[str] = []
        self.closed = False

    def __iter__(self) -> Iterator[Shot]:
        for index, image in enumerate(self.images):
            if isinstance(image, BaseException):
                raise image
            yield Shot(image, index, index / self.fps)

    def close(self) -> None:
        self.closed = True


ONE = picture_of((5, 8, 25, 58))
TWO = picture_of((5, 8, 25, 58), (50, 8, 70, 58))


def watch(*sources: Frames, **options: Any) -> tuple[list[SourceReport], list[dict[str, Any]], ColourDetector]:
    records: list[dict[str, Any]] = []
    detector, pose = ColourDetector(), FixedPose()
    followers = Followers(cast(Any, pose), detector, len(sources), Following())
    reports = watch_sources(followers, sources, pose.spec.skeleton, records.append, StageTimes(), **options)
    return reports, records, detector


def test_every_frame_of_every_source_is_written_with_ids():
    reports, records, _ = watch(Frames("a", [ONE] * 5), Frames("b", [TWO] * 7))

    assert [(r.name, r.frames, r.people, r.ids) for r in reports] == [("a", 5, 5, 1), ("b", 7, 14, 2)]
    of_b = [record for record in records if record["file_name"] == "b"]
    assert [record["frame"] for record in of_b] == list(range(7))
    assert all([person["track_id"] for person in record["people"]] == [1, 2] for record in of_b)


def test_a_source_that_breaks_off_ends_alone():
    reports, records, _ = watch(Frames("a", [ONE, InputError("a broke")]), Frames("b", [TWO] * 5))

    assert [report.error for report in reports] == ["a broke", None]
    assert [report.frames for report in reports] == [1, 5]
    assert len(records) == 6


def test_sources_without_a_frame_are_told_and_everything_is_closed():
    sources = Frames("a", [InputError("a broke")]), Frames("b", [])

    reports, records, _ = watch(*sources)

    assert [(report.frames, report.error) for report in reports] == [(0, "a broke"), (0, "b: no frame came")]
    assert records == []
    assert all(source.closed for source in sources)


def test_an_interrupt_ends_a_live_source_well_and_a_file_with_a_partial_video(tmp_path: Path):
    overlay = tmp_path / "a.mp4"
    reports, _, _ = watch(Frames("camera", [ONE, ONE, KeyboardInterrupt()], live=True), overlays=[overlay])
    assert reports[0].frames >= 1
    assert VideoReader(overlay).length == reports[0].frames

    with pytest.raises(KeyboardInterrupt):
        watch(Frames("file", [ONE, ONE, KeyboardInterrupt()]), overlays=[tmp_path / "b.mp4"])
    assert VideoReader(tmp_path / "b.partial.mp4").length == 2
    assert not (tmp_path / "b.mp4").exists()


def test_changing_sizes_make_one_overlay_video_of_the_first_ones(tmp_path: Path):
    larger = np.kron(TWO, np.ones((2, 2, 1), np.uint8))

    reports, records, _ = watch(Frames("a", [ONE, larger, ONE]), overlays=[tmp_path / "a.mp4"])

    assert [(record["width"], record["height"]) for record in records] == [
        (image.shape[1], image.shape[0]) for image in (ONE, larger, ONE)
    ]
    boxes = [np.array(record["people"][0]["bbox"]) for record in records]
    np.testing.assert_allclose(boxes[1], 2 * boxes[0], atol=1)  # a pixel of the colour detector
    assert [[person["track_id"] for person in record["people"]] for record in records] == [[1], [1, 2], [1]]
    frames = list(VideoReader(tmp_path / "a.mp4"))
    assert reports[0].overlay == tmp_path / "a.mp4"
    assert [frame.shape for frame in frames] == [ONE.shape] * 3


def test_pictures_are_shown_with_what_is_known_and_no_more_than_wanted():
    shown: list[tuple[int, tuple[int, ...], dict[str, Any]]] = []

    class Shown:
        def show(self, source: int, image: np.ndarray, status: dict[str, Any]) -> None:
            shown.append((source, image.shape, status))

    told: list[int] = []
    live = LiveOutput(Shown(), most_frames=2, tell=lambda reports: told.append(reports[0].frames))
    reports, _, _ = watch(Frames("a", [TWO] * 50), live=live)

    assert reports[0].frames == 2
    assert [(source, shape, status["people"], status["frame"]) for source, shape, status in shown] == [
        (0, TWO.shape, 2, 0),
        (0, TWO.shape, 2, 1),
    ]
    assert told == [1, 2]


def test_a_picture_that_is_too_large_for_a_video_keeps_its_key_points(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda self: False)
    monkeypatch.setattr("edgepose.io.video.has_pyav", lambda: False)

    reports, records, _ = watch(Frames("a", [ONE] * 3), overlays=[tmp_path / "a.mp4"])

    assert len(records) == 3
    assert "cannot write a 96x64" in reports[0].notes[0]
    assert reports[0].overlay is None


class Pictures:
    """Keeps what was shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def show(self, source: int, image: np.ndarray, status: dict[str, Any]) -> None:
        self.shown.append(status)


@pytest.mark.parametrize("live", [True, False], ids=["camera", "file"])
def test_a_lifter_shows_positions_at_once_and_writes_those_of_a_camera(live: bool):
    def standing(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {"xyz": np.full((len(inputs["points"]), 17, 3), 0.5, np.float32)}

    lifter = LiveLifter(Lifter(standing, Lift(3, points="coco17", root="nose"), COCO17, COCO17), COCO17)
    pictures = Pictures()

    _, records, _ = watch(
        Frames("a", [TWO] * 3, live=live), live=LiveOutput(picture=cast(Any, pictures)), lifter=lifter
    )

    assert [len(status["space"]["people"]) for status in pictures.shown] == [2] * len(records)
    people = [person for record in records for person in record["people"]]
    assert people
    assert all(("xyz" in person) == live for person in people)
    if live:
        assert {person["xyz_skeleton"] for person in people} == {"coco17"}
