from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepose.errors import ModelFileError
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_records import lifted
from edgepose.model.heads.lift import Lift
from edgepose.model.skeletons import BODY15, COCO17, H36M17, MPII16
from tests.walker import WH, seen, walking


def first_frame(inputs: Any) -> Any:
    """A lifter whose answer tells which frame its window began with: the walker goes to the right."""
    points = inputs["points"]
    return {"xyz": np.concatenate([points[:, 0], points[:, 0, :, :1]], axis=2)}


LIFTER = Lifter(first_frame, Lift(3, points="body15"), BODY15, BODY15)
POINTS = np.concatenate([seen(walking(6)), np.ones((6, 17, 1))], axis=2)


def record(frame: int | None, people: int = 1, **more: Any) -> dict[str, Any]:
    keypoints = POINTS[frame or 0].ravel().tolist()
    numbered = {} if frame is None else {"frame": frame}
    return {**numbered, "width": WH[0], "height": WH[1], "people": [{"keypoints": keypoints, **more}] * people}


def test_a_pictures_record_passes_at_once():
    written: list[dict[str, Any]] = []

    with lifted(written.append, LIFTER, COCO17) as records:
        records(record(None))
        assert len(written) == 1
        records({"file_name": "a.jpg", "error": "damaged"})

    assert len(written[0]["people"][0]["xyz"]) == 45
    assert written[0]["people"][0]["xyz_skeleton"] == "body15"
    assert written[1] == {"file_name": "a.jpg", "error": "damaged"}


def test_a_videos_records_wait_for_its_end():
    written: list[dict[str, Any]] = []

    with lifted(written.append, LIFTER, COCO17) as records:
        for frame in range(6):
            records(record(frame))
        assert written == []
        records.finish()
        assert [one["frame"] for one in written] == list(range(6))

    # each window begins one frame before its own; the first is padded
    ankle = [one["people"][0]["xyz"][3 * BODY15.keypoints.index("left_wrist")] for one in written]
    alone = [
        LIFTER.track(np.array([0]), POINTS[i : i + 1, :, :2], POINTS[i : i + 1, :, 2], COCO17, WH) for i in range(6)
    ]
    expected = [float(alone[max(i - 1, 0)][0, BODY15.keypoints.index("left_wrist"), 0]) for i in range(6)]
    assert np.allclose(ankle, expected, atol=1e-4)


def test_frames_of_another_size_show_the_same_scaled():
    written: list[dict[str, Any]] = []
    expected: list[dict[str, Any]] = []
    with lifted(expected.append, LIFTER, COCO17) as records:
        for frame in range(4):
            records(record(frame))

    with lifted(written.append, LIFTER, COCO17) as records:
        for frame in range(4):
            records(record(frame) if frame < 2 else stretched(record(frame)))

    for one, same in zip(written, expected, strict=True):
        assert np.allclose(one["people"][0]["xyz"], same["people"][0]["xyz"], atol=2e-4)  # rounded to 1e-4
    assert written[3]["people"][0]["keypoints"] == stretched(record(3))["people"][0]["keypoints"]


def stretched(one: dict[str, Any]) -> dict[str, Any]:
    """A record of the same of twice the width and three times the height."""
    points = np.array(one["people"][0]["keypoints"]).reshape(-1, 3) * (2, 3, 1)
    return {**one, "width": 2 * WH[0], "height": 3 * WH[1], "people": [{"keypoints": points.ravel().tolist()}]}


def test_an_interrupt_loses_nothing():
    written: list[dict[str, Any]] = []

    def run() -> None:
        with lifted(written.append, LIFTER, COCO17) as records:
            for frame in range(3):
                records(record(frame))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()

    assert [one["frame"] for one in written] == [0, 1, 2]
    assert all(one["people"][0]["xyz"] for one in written)


def test_no_people_at_all_is_an_empty_correct_result():
    written: list[dict[str, Any]] = []

    with lifted(written.append, LIFTER, COCO17) as records:
        records(record(None, people=0))
        records(record(0, people=0))

    assert [one["people"] for one in written] == [[], []]


def test_people_are_followed_by_their_track():
    written: list[dict[str, Any]] = []

    with lifted(written.append, LIFTER, COCO17) as records:
        for frame in range(3):
            records(
                {
                    **record(frame),
                    "people": [record(frame, track_id=7)["people"][0], record(0, track_id=3)["people"][0]],
                }
            )

    still = [one["people"][1]["xyz"] for one in written]
    assert still[0] == still[1] == still[2]
    assert written[1]["people"][0]["xyz"] != written[2]["people"][0]["xyz"]


def test_somebody_without_a_track_is_lifted_alone():
    written: list[dict[str, Any]] = []

    with lifted(written.append, LIFTER, COCO17) as records:
        for frame in range(3):
            people = [record(0, track_id=7)["people"][0], record(frame)["people"][0]]
            records({**record(frame), "people": people})

    alone = LIFTER.track(np.array([0]), POINTS[2:3, :, :2], POINTS[2:3, :, 2], COCO17, WH)
    assert np.allclose(written[2]["people"][1]["xyz"], alone.ravel(), atol=1e-4)


def test_a_point_that_was_never_found_gives_null():
    written: list[dict[str, Any]] = []
    unseen = record(None)
    unseen["people"][0]["keypoints"][3 * 11 + 2] = 0

    with lifted(written.append, LIFTER, COCO17) as records:
        records(unseen)

    assert written[0]["people"][0]["xyz"] is None


def test_a_lifter_for_another_skeleton_is_told_before_any_work():
    lifter = Lifter(first_frame, Lift(3), H36M17, H36M17)

    with (
        pytest.raises(ModelFileError, match="body15 key points cannot be read as h36m17"),
        lifted(lambda record: None, lifter, BODY15),
    ):
        pass

    with lifted(lambda record: None, lifter, MPII16):
        pass
