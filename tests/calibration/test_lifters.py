from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgepose.calibration.lifters import calibrate_lifter, inner_layers
from edgepose.cli import main
from edgepose.errors import CalibrationError, ModelFileError
from edgepose.estimate.lift import open_lifter
from edgepose.evaluation.lifting import evaluate_lifters
from edgepose.export.graph.fold import fold
from edgepose.io.tracks import read_tracks
from edgepose.model.passport import read_passport
from tests.walker import make_tracks_json


@pytest.fixture(scope="module")
def tracks_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tracks") / "tracks.json"
    path.write_text(json.dumps(make_tracks_json(60)))
    return path


@pytest.fixture(scope="module")
def calibrated(tiny_lifter, tracks_file, tmp_path_factory):
    return calibrate_lifter(tiny_lifter.fp32, tracks_file, output_dir=tmp_path_factory.mktemp("int8"))


def test_the_first_and_the_last_layer_stay_in_float(tiny_lifter):
    graph = fold(onnx.load(tiny_lifter.fp32))
    convolutions = [node.output[0] for node in graph.graph.node if node.op_type == "Conv"]

    assert inner_layers(graph) == convolutions[1:-1]


def test_int8_moves_positions_by_millimetres(calibrated, tiny_lifter, tracks_file):
    lifters = [open_lifter(path) for path in (tiny_lifter.fp32, calibrated.int8)]

    exact, int8 = evaluate_lifters(lifters, read_tracks(tracks_file, with_positions=True))

    assert int8.shift < 20  # 127 steps a layer, five layers, of a body 2 m high: 8 mm each at the worst
    assert abs(int8.mpjpe - exact.mpjpe) < 20
    assert read_passport(calibrated.int8).verified["int8_mean_mm"] == pytest.approx(calibrated.mean_mm)


def test_ranges_are_used_again(calibrated, tiny_lifter, tracks_file):
    again = calibrate_lifter(tiny_lifter.fp32, tracks_file, output_dir=calibrated.int8.parent)

    assert again.reused
    assert not calibrated.reused
    assert "the track that was calibrated on" in again.summary()


def test_tracks_without_a_whole_skeleton_give_no_range(tiny_lifter, tmp_path):
    data = make_tracks_json(5)
    for entry in data["annotations"]:
        entry["keypoints"][3 * 11 + 2] = 0  # the left hip
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(data))

    with pytest.raises(CalibrationError, match="lacks a key point throughout"):
        calibrate_lifter(tiny_lifter.fp32, path, output_dir=tmp_path)


def test_only_fp32_is_calibrated(tiny_lifter, tracks_file, tmp_path):
    with pytest.raises(ModelFileError, match="is FP16; wanted: the FP32 file"):
        calibrate_lifter(tiny_lifter.fp16, tracks_file, output_dir=tmp_path)


def test_nvidias_parser_and_builder_accept_it(calibrated, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    options = ("--runtime", "tensorrt_rtx", "--target", "sm_86", "--no-kernels", "-o", str(tmp_path / "lifter.plan"))

    result = CliRunner().invoke(main, ["build", str(calibrated.int8), *options])

    assert result.exit_code == 0, result.output


def test_a_track_of_one_frame_is_a_window_of_its_own(tiny_lifter, tmp_path):
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps(make_tracks_json(1)))

    calibrated = calibrate_lifter(tiny_lifter.fp32, path, output_dir=tmp_path)
    (measured,) = evaluate_lifters([open_lifter(calibrated.int8)], read_tracks(path, with_positions=True))

    assert "ranges of 1 windows" in calibrated.summary()
    assert np.isfinite([measured.mpjpe, measured.n_mpjpe, measured.p_mpjpe]).all()
