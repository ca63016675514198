from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgepose.errors import InputError, ModelFileError
from edgepose.estimate.lift import Lifter
from edgepose.evaluation.lifting import LiftEvaluation, LiftFigures, evaluate_lifters
from edgepose.evaluation.report import record_accuracy
from edgepose.files import sha256_of
from edgepose.io.tracks import Tracks, read_tracks
from edgepose.model.heads.lift import Lift
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.skeletons import BODY15
from tests.makers import make_spec
from tests.walker import make_tracks_json, walking


def make_tracks(tmp_path: Path, frames: int = 12, *, unseen: str = "") -> Tracks:
    data = make_tracks_json(frames)
    if unseen:
        index = data["categories"][0]["keypoints"].index(unseen)
        for entry in data["annotations"]:
            entry["keypoints"][3 * index + 2] = 0
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(data))
    return read_tracks(path, with_positions=True)


def knowing(xyz: np.ndarray) -> Lifter:
    """A lifter of the walker that knows the truth, and says `xyz` of it, frame by frame."""
    return Lifter(lambda inputs: {"xyz": xyz}, Lift(9, points="body15", units="person"), BODY15, BODY15)


def test_the_truth_has_no_error(tmp_path):
    figures = evaluate_lifters([knowing(walking(12))], make_tracks(tmp_path))[0]

    assert max(figures.mpjpe, figures.n_mpjpe, figures.p_mpjpe) < 0.001  # mm, of float32 metres
    assert (figures.poses, figures.lost, figures.shift) == (12, 0, None)


def test_errors_are_mm_and_only_some_are_forgiven(tmp_path):
    truth = walking(12) - walking(12)[:, :1]
    smaller = evaluate_lifters([knowing(0.9 * truth)], make_tracks(tmp_path))[0]
    turned = evaluate_lifters([knowing(truth[..., [2, 1, 0]] * (1, 1, -1))], make_tracks(tmp_path))[0]

    assert smaller.mpjpe == pytest.approx(100 * np.linalg.norm(truth, axis=2).mean(), rel=1e-4)
    assert smaller.n_mpjpe < 0.001
    assert turned.n_mpjpe > 10
    assert turned.p_mpjpe < 0.001


def test_later_lifters_are_compared_with_the_first(tmp_path):
    moved = walking(12)
    moved[:, 3] += (0, 0, 0.15)

    first, second = evaluate_lifters([knowing(walking(12)), knowing(moved)], make_tracks(tmp_path))

    assert first.shift is None
    assert second.shift == pytest.approx(10, rel=1e-4)  # 150 mm of one point in 15
    assert second.largest_shift == pytest.approx(150, rel=1e-4)


def test_a_track_in_which_a_point_is_never_found_cannot_be_lifted(tmp_path):
    with pytest.raises(InputError, match="a key point is missing throughout"):
        evaluate_lifters([knowing(walking(12))], make_tracks(tmp_path, unseen="left_knee"))


def test_a_lifter_exchanged_while_it_was_measured_gets_no_figures(tmp_path):
    path = tmp_path / "l.onnx"
    path.write_bytes(b"another")
    write_passport(path, Passport(make_spec(), "fp32", sha256_of(path), "by hand"))
    errors = LiftFigures(mpjpe=1, n_mpjpe=1, p_mpjpe=1, poses=1, lost=0)

    with pytest.raises(ModelFileError, match="exchanged"):
        record_accuracy(LiftEvaluation([path], ["0" * 64], [errors], {"flip_test": False}))

    assert read_passport(path).accuracy == []
