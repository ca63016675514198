"""calibrate --budget from the command line, on toy networks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from edgepose.calibration.budget import Loss
from edgepose.calibration.mixes import Ground, mixed, tensors_of_mixes
from edgepose.calibration.qdq import all_layers, quantisable_layers
from edgepose.cli import main
from edgepose.model.passport import read_passport, write_passport
from tests.calibration.graphs import mobile_network, pose_network, prepare, toy_spec, write_model
from tests.makers import smooth_image

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("budget")
    for seed in range(24):
        cv2.imwrite(str(folder / f"{seed}.png"), smooth_image(seed=seed))
    path = write_model(folder, mobile_network())
    spec = toy_spec().changed(decoder="dark")  # of the others a small error often moves nothing
    write_passport(path, replace(read_passport(path), spec=spec))
    return folder


def run_command(folder: Path, output: Path, *arguments: object) -> Result:
    fixed = (
        "calibrate",
        "--images",
        folder / "*.png",
        "--model",
        folder / "toy.onnx",
        "--boxes",
        "whole",
        "-o",
        output,
    )
    return CliRunner().invoke(main, [*map(str, (*fixed, *arguments))])


def ground_of(network: onnx.ModelProto) -> Ground:
    prepared = prepare(network)
    ranges = {name: 4.0 for name in tensors_of_mixes(prepared, all_layers(prepared))}
    return Ground(prepared, tuple(quantisable_layers(prepared)), ranges, {})


@pytest.mark.parametrize("budget", ["1000px", "1oks"])
def test_a_wide_budget_leaves_all_layers_in_int8_the_head_and_depthwise_ones_too(folder, tmp_path, budget):
    result = run_command(folder, tmp_path, "--budget", budget)

    assert result.exit_code == 0, result.output
    assert "1.6 times that is added" not in result.output
    assert "on the people who chose it; others confirm that: " in result.output
    passport = read_passport(tmp_path / "toy.int8.onnx")
    assert {"depthwise", "heatmaps"} <= set(passport.layers["int8"])
    assert passport.layers["float"] == []
    assert passport.int8_share == 1


def test_without_a_budget_the_head_and_depthwise_layers_stay_in_float(folder, tmp_path):
    result = run_command(folder, tmp_path)

    assert result.exit_code == 0, result.output
    passport = read_passport(tmp_path / "toy.int8.onnx")
    assert set(passport.layers["int8"]) == set(quantisable_layers(prepare(mobile_network())))
    assert {"depthwise", "heatmaps"} <= set(passport.layers["float"])
    assert 0 < passport.int8_share < 1


def test_a_budget_that_nothing_meets_ends_with_status_1_and_the_best_file(folder, tmp_path):
    result = run_command(folder, tmp_path, "--budget", "0.0000001px", "--method", "mse")

    assert result.exit_code == 1
    assert "not within 0.0000001px: with 95 % certainty no mix is; the mix loses 0.0" in result.output
    assert "only, with a budget of 1e-07px, and at least 1.6 times that is added" in result.output
    assert read_passport(tmp_path / "toy.int8.onnx").precision == "int8"


@pytest.mark.parametrize(("confirmed", "status"), [(0.29, 0), (0.31, 1)])
def test_a_mix_is_done_only_where_people_who_did_not_choose_confirm_it(
    folder, tmp_path, monkeypatch, confirmed, status
):
    def measured(ground, layers, scene, judge):
        value = 0.2 if judge.images == scene.people.held_out else confirmed
        return Loss(value, np.full(4, value))

    monkeypatch.setattr("edgepose.calibration.choose._measured", measured)

    result = run_command(folder, tmp_path, "--budget", "0.3px", "--method", "mse")

    assert result.exit_code == status
    others = f"others {('confirm that', 'are over the budget')[status]}: {confirmed} px ± 0"
    assert f"the mix loses 0.2 px ± 0 on the people who chose it; {others}" in result.output
    verified = read_passport(tmp_path / "toy.int8.onnx").verified
    assert (verified["budget_px"], verified["chosen_loss_px"], verified["confirmed_loss_px"]) == (0.3, 0.2, confirmed)


def test_without_exclusion_no_single_layer_is_taken_out(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "edgepose.calibration.choose._measured", lambda ground, layers, scene, judge: Loss(9.0, np.full(4, 9.0))
    )

    result = run_command(folder, tmp_path, "--budget", "0.3px", "--no-exclude")

    assert result.exit_code == 1
    tried = json.loads((tmp_path / "toy.search.json").read_text())["losses"]
    sizes = [len(each["layers"]) for each in tried if each["people"] == "choosing"]
    assert sizes == [5, 5, 5, 5, 8]  # each method with the usual layers, then all


@pytest.mark.parametrize(
    ("option", "without", "with_"), [("--no-equalise", "factors", "means"), ("--no-correct-biases", "means", "factors")]
)
def test_a_technique_can_be_switched_off(folder, tmp_path, option, without, with_):
    result = run_command(folder, tmp_path, option)

    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "toy.calibration.json").read_text())
    assert table[without] == {}
    assert table[with_]


def test_a_second_search_measures_nothing_again(folder, tmp_path, monkeypatch):
    run_command(folder, tmp_path, "--budget", "0.0000001px", "--method", "mse")
    before = (tmp_path / "toy.search.json").read_bytes()
    monkeypatch.setattr("edgepose.calibration.choose._measured", None)  # to call it is an error
    monkeypatch.setattr("edgepose.calibration.choose.layer_noises", None)

    result = run_command(folder, tmp_path, "--budget", "0.0000001px", "--method", "mse")

    assert result.exit_code == 1, result.output
    assert (tmp_path / "toy.search.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "[]", '{"made_from": 3}'])
def test_a_damaged_memory_is_measured_anew(folder, tmp_path, text):
    (tmp_path / "toy.search.json").write_text(text)

    result = run_command(folder, tmp_path, "--budget", "1000px", "--method", "mse")

    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "toy.search.json").read_text())["losses"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--budget", "0px"], 2, "more than 0"),
        (["--budget", "3mm"], 2, "one of px, oks, ap, pck"),
        (["--budget", "1ap"], 2, "needs --annotations"),
        (["--budget", "1px", "--annotations", "a.json"], 2, "the folder of their images"),
        (["--report", "page.txt"], 1, "name it with .html"),
        (["--device", "cpu"], 2, "go with --budget or --report"),
        (["--budget", "1px", "--device", "nano"], 1, "none of orin-nano"),
        (["--no-exclude"], 2, "--no-exclude goes with --budget"),
    ],
)
def test_what_cannot_be_searched_for_is_said_in_a_line(folder, tmp_path, arguments, status, said):
    result = run_command(folder, tmp_path, *arguments)

    assert result.exit_code == status
    assert said in result.output
    assert not (tmp_path / "toy.int8.onnx").exists()


def annotate(path: Path, names: list[str]) -> Path:
    """COCO key points of one person an image, who fills it."""
    people = [
        {
            "id": index + 1,
            "image_id": index + 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 9000,
            "bbox": [0, 0, 160, 120],
            "num_keypoints": 2,
            "keypoints": [40, 40, 2, 80, 80, 2],
        }
        for index in range(len(names))
    ]
    path.write_text(
        json.dumps(
            {
                "images": [{"id": index + 1, "file_name": name} for index, name in enumerate(names)],
                "annotations": people,
                "categories": [{"id": 1, "name": "person", "keypoints": list(toy_spec().skeleton.keypoints)}],
            }
        )
    )
    return path


def test_where_fp32_finds_nothing_a_budget_is_refused(folder, tmp_path):
    labels = annotate(tmp_path / "labels.json", [f"{seed}.png" for seed in range(24)])

    result = run_command(folder, tmp_path, "--budget", "1ap", "--annotations", labels, "--annotated-images", folder)

    assert result.exit_code == 1
    assert "AP of FP32 is 0.0 % with labels.json: nothing to lose" in result.output


def test_a_budget_of_ap_is_measured_on_annotated_images_that_were_not_calibrated_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgepose.calibration.budget.LEAST_FIGURE", 0.0)  # random weights find nobody
    labels = annotate(tmp_path / "labels.json", [f"{seed}.png" for seed in range(24)])

    result = run_command(
        folder, tmp_path, "--budget", "100ap", "--annotations", labels, "--annotated-images", folder, "--method", "mse"
    )

    assert result.exit_code == 0, result.output
    loss = json.loads((tmp_path / "toy.search.json").read_text())["losses"][0]
    assert len(loss["parts"]) == 8  # 24 images, a third of which are held out: a group each


def test_annotations_of_other_images_are_refused(folder, tmp_path):
    labels = annotate(tmp_path / "labels.json", ["elsewhere.png"])

    result = run_command(folder, tmp_path, "--budget", "1ap", "--annotations", labels, "--annotated-images", folder)

    assert result.exit_code == 1
    assert "elsewhere.png" in result.output
    assert "no image of labels.json" in result.output


def test_an_int8_file_is_not_quantised_again(folder, tmp_path):
    run_command(folder, tmp_path, "--method", "mse")

    result = CliRunner().invoke(
        main,
        [*("calibrate", "--budget", "1px"), "--images", str(folder), "--model", str(tmp_path / "toy.int8.onnx")],
    )

    assert result.exit_code == 1
    assert "is INT8; wanted: the FP32 file" in result.output


@pytest.mark.parametrize("count", [1, 2, 5])
def test_images_that_are_too_few_to_confirm_on_are_refused(folder, count):
    images = [argument for index in range(count) for argument in ("--images", str(folder / f"{index}.png"))]

    people = ["--boxes", "whole", "--model", str(folder / "toy.onnx")]
    result = CliRunner().invoke(main, ["calibrate", *images, *people, "--budget", "1px"])

    assert result.exit_code == 1
    assert f"others to confirm, and there are {count} with people: give at least 6" in result.output


def test_a_mix_holds_int8_weights_for_its_layers_alone():
    ground = ground_of(pose_network())
    chosen = ground.layers[1]

    graph = mixed(ground, [chosen]).graph

    weights = {item.name for item in graph.initializer if item.data_type == onnx.TensorProto.INT8 and len(item.dims)}
    assert {name for name in weights if not name.endswith(".zero")} == {f"{chosen}.weight.int8"}


def test_profiles_say_what_a_mix_takes(folder, tmp_path):
    prepared = prepare(mobile_network())
    names = [node.name for node in prepared.graph.node if node.op_type == "Conv"]
    for name, ms in (("fp16", 0.5), ("int8", 0.125)):
        kernels = [{"name": each.removesuffix(".phases"), "medianMs": ms} for each in names]
        (tmp_path / f"{name}.json").write_text(json.dumps([{"count": 9}, *kernels]))
    profiles = ("--device", "thor", "--profile", tmp_path / "fp16.json", tmp_path / "int8.json")

    result = run_command(folder, tmp_path, "--budget", "1000px", "--method", "mse", *profiles)

    assert result.exit_code == 0, result.output
    taken = [int(text) for text in re.findall(r"predicted (\d+) us", result.output)]
    assert 125 * len(names) <= taken[-1] < 500 * len(names)


def test_a_profile_of_another_network_and_one_without_a_device_are_told_in_a_line(folder, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"name": "another", "medianMs": 1.0}]))
    profiles = ("--profile", tmp_path / "p.json", tmp_path / "p.json")

    other = run_command(folder, tmp_path, "--budget", "1px", "--device", "thor", *profiles)
    alone = run_command(folder, tmp_path, "--budget", "1px", *profiles)

    assert (other.exit_code, alone.exit_code) == (1, 2)
    assert "p.json names 0 of the network's" in str(other.exception or "") + other.output
    assert "--profile goes with --budget and --device" in alone.output
