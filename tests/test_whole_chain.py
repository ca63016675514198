"""From random weights to FP32, FP16 and INT8 files that the CPU backends run and NVIDIA's builder accepts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgepose.cli import main
from edgepose.model.passport import read_passport
from tests.makers import smooth_image

PRECISIONS = {"": "fp32", ".fp16": "fp16", ".int8": "int8"}


def edgepose(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with images/ and the three model files, and the model's name."""
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("chain")
    (folder / "images").mkdir()
    for seed in range(6):
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), smooth_image(seed=seed))
    edgepose("export", "--model", "simplebaseline_resnet18", "--weights", "random", "-o", folder)
    (model,) = folder.glob("*256x192.onnx")
    edgepose("calibrate", "--model", model, "--images", folder / "images", "--boxes", "whole")
    return folder, model.name.removesuffix(".onnx")


@pytest.mark.parametrize(("suffix", "precision"), PRECISIONS.items())
def test_each_file_has_a_passport_that_says_its_weights_are_random(chain, suffix, precision):
    folder, name = chain

    passport = read_passport(folder / f"{name}{suffix}.onnx")

    assert passport.precision == precision
    assert passport.random_weights


@pytest.mark.parametrize("suffix", PRECISIONS)
def test_infer_reads_each_file_and_gives_every_key_point(chain, suffix, tmp_path):
    folder, name = chain

    result = edgepose(
        "infer",
        "--engine",
        folder / f"{name}{suffix}.onnx",
        "--input",
        folder / "images",
        "--boxes",
        "whole",
        "--out",
        tmp_path,
    )

    people = json.loads((tmp_path / "keypoints.json").read_text())
    assert len(people) == 6
    assert all(len(person["keypoints"]) == 17 * 3 and np.isfinite(person["keypoints"]).all() for person in people)
    assert "random" in result.stderr


@pytest.mark.parametrize("suffix", PRECISIONS)
def test_nvidias_parser_and_builder_accept_each_file(chain, suffix):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    folder, name = chain

    edgepose("build", folder / f"{name}{suffix}.onnx", "--runtime", "tensorrt_rtx", "--target", "sm_86", "--no-kernels")

    plan = read_passport(folder / f"{name}{suffix}.plan")
    assert plan.precision == PRECISIONS[suffix]
    assert plan.made_from == {f"{name}{suffix}.onnx": read_passport(folder / f"{name}{suffix}.onnx").sha256}
