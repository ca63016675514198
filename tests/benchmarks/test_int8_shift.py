"""INT8's shift of key points: the arithmetic of its table, its weights, and one network from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("openvino")

import torch

from edgepose.benchmarks.studies import int8_shift
from edgepose.benchmarks.studies.int8_shift import (
    ENTRIES,
    clear_peaks,
    golden_state,
    lower_by,
    main,
    rows_of,
    sqnr_db,
)
from edgepose.calibration.dataset import CalibrationImage
from edgepose.export.zoo.find import find_model
from tests.makers import dots_image, dots_spec, smooth_image, write_toy_model
from tests.shared_data import SHARED, needs_shared


def peak(x: float, y: float, height: float = 1.0) -> np.ndarray:
    """(32, 32) a Gaussian of sigma 2."""
    rows, columns = np.mgrid[:32, :32]
    return np.asarray(height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8))


def as_maps(*maps: np.ndarray) -> np.ndarray:
    """(1, K, 32, 32) float32."""
    return np.stack(maps)[None].astype(np.float32)


@needs_shared
@pytest.mark.parametrize(
    ("reference", "entry"),
    [
        ("ms_res50", "simplebaseline_resnet50:pytorch"),
        ("leo_hrnet_w32", "hrnet_w32:pytorch"),
        ("mm_cpm", "cpm:pytorch"),
        ("mm_hourglass52", "hourglass52:pytorch"),
        ("bp_hg2", "stacked_hourglass_2:bearpaw"),
        ("hgp_2", "stacked_hourglass_2:princeton"),
    ],
)
def test_golden_weights_have_the_names_and_shapes_of_the_reference(reference, entry, monkeypatch):
    name, _, style = entry.partition(":")
    monkeypatch.setattr(int8_shift, "golden_weight", lambda key, shape: list(shape))
    with torch.device("meta"):
        network = find_model(name).build(style)

    state = golden_state(network, name)

    assert state == json.loads((SHARED / "golden" / f"{reference}.keys.json").read_text())


def test_every_entry_is_a_network_of_the_zoo():
    for entry in ENTRIES:
        name, _, style = entry.partition(":")
        assert not style or style in find_model(name).styles


def test_sqnr_of_an_error_a_tenth_as_large_is_20_db_and_a_constant_is_no_error():
    maps = as_maps(peak(10, 10), peak(20, 5))

    assert sqnr_db(maps, 1.1 * maps + 7) == pytest.approx(20, abs=0.01)
    assert sqnr_db(maps, maps) == np.inf


def test_a_peak_is_clear_where_nothing_far_comes_near_it():
    maps = as_maps(
        peak(10, 10),
        peak(10, 10) + peak(25, 25, 0.85),
        peak(10, 10) + peak(25, 25, 0.95),
        peak(0, 31),
        np.zeros((32, 32)),
        np.linspace(0, 1, 1024).reshape(32, 32),
    )

    assert clear_peaks(maps).tolist() == [[True, True, False, True, False, False]]


def test_lower_is_how_far_below_its_peak_the_map_is_where_the_other_one_peaks():
    maps = as_maps(peak(10, 10) + peak(25, 25, 0.9), peak(10, 10))
    others = as_maps(peak(25, 25), peak(10, 10, 3))

    assert lower_by(maps, others)[0] == pytest.approx([0.1, 0], abs=1e-3)


def test_a_row_compares_a_file_with_fp32_in_both_grids(tmp_path: Path):
    image = dots_image((8, 8), (32, 40))
    cv2.imwrite(str(tmp_path / "people.png"), image[..., ::-1])
    people = [CalibrationImage(tmp_path / "people.png", "", np.array([[0, 0, 48, 64]], np.float32))]
    spec = dots_spec().changed(decoder="argmax")
    fp32 = write_toy_model(tmp_path / "toy.onnx", spec)
    fp16 = write_toy_model(tmp_path / "toy.fp16.onnx", spec, precision="fp16")
    moved = write_toy_model(tmp_path / "moved.onnx", spec.changed(color_order="bgr"))

    same, swapped = rows_of(fp32, "toy", people, [fp16, moved])

    assert same.split(" | ")[:3] == ["| toy", "toy", "FP16"]
    assert same.endswith(
        "| 0.0% / 0.0% | 0.00 / 0.00 / 0.0% | 0.00 / 0.00 / 0.0% | 100% of 2 | "
        "0.00 / 0.00 / 0.0% | 0.00 / 0.00 / 0.0% |"
    )
    # (8, 8) and (32, 40) changed places: 10 heat-map px apart, of 4 image px each
    assert " | 10.00 / 10.00 / 100.0% | 40.00 / 40.00 / 100.0% | 100% of 2 | " in swapped


def test_a_table_of_the_embedded_network(tmp_path: Path):
    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), smooth_image(seed=seed))
    arguments = ["--calibration-images", tmp_path, "--images", tmp_path, "--model", "simplebaseline_tiny", "--limit", 2]

    result = CliRunner().invoke(main, [str(each) for each in arguments])

    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in result.output.splitlines()]
    assert [row[1:3] for row in rows[2:]] == [["trained", "FP16"], ["trained", "INT8"]]
    assert len({len(row) for row in rows}) == 1


def test_pictures_that_are_not_there_are_one_line(tmp_path: Path):
    arguments = ["--calibration-images", str(tmp_path), "--images", str(tmp_path / "none")]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
