from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("openvino")
pytest.importorskip("onnx")

from edgepose.backends import BF16, load_backend, load_runtime, openvino
from edgepose.backends.bf16 import CROPS, ComparedRuntime, compared_in_fp32
from edgepose.cli import main
from edgepose.errors import BackendError
from edgepose.io.images import write_image
from edgepose.machine.system import bf16_instructions
from edgepose.model.passport import Passport
from tests.makers import TOY_STEP, dots_image, dots_spec, write_toy_model

needs_bf16 = pytest.mark.skipif(
    not bf16_instructions() or "ONEDNN_MAX_CPU_ISA" in os.environ, reason="this CPU has no BF16, or may not use it"
)


class Peaks:
    """A runtime whose heat maps have their peaks in one column."""

    name, arithmetic, path = "fake", "FP32", Path("m.onnx")

    def __init__(self, column: int, score: float = 1.0) -> None:
        self.passport = Passport(dots_spec(), "fp32", "0" * 64, "drawn")
        self.column, self.score, self.seen, self.closed = column, score, 0, False

    def run(self, arrays: Any) -> dict[str, np.ndarray]:
        count = len(arrays["crops"])
        self.seen += count
        maps = np.zeros((count, *self.passport.spec.outputs["heatmaps"]), np.float32)
        maps[:, :, 5, self.column] = self.score
        return {"heatmaps": maps}

    def close(self) -> None:
        self.closed = True


def crops(count: int, value: float = 1.0) -> dict[str, np.ndarray]:
    return {"crops": np.full((count, 3, 64, 48), value, np.float32)}


@pytest.mark.parametrize(("count", "seen"), [(0, 0), (1, 1), (CROPS - 1, CROPS - 1), (CROPS, CROPS), (50, CROPS)])
def test_the_first_crops_are_looked_at_twice(count: int, seen: int):
    fast, sure = Peaks(4), Peaks(5)
    runtime = ComparedRuntime(fast, sure)

    outputs = runtime.run(crops(count))

    assert len(outputs["heatmaps"]) == fast.seen == count
    assert (sure.seen, sure.closed) == (seen, seen == CROPS)
    assert f"the first {seen} crops" in runtime.cost()


def test_the_cost_is_in_pixels_of_the_crop():
    runtime = ComparedRuntime(Peaks(4), Peaks(5))

    runtime.run(crops(2))

    assert runtime.passport.spec.heatmaps.size_hw[1] == 12  # of 48 px
    assert runtime.cost() == (
        "m.onnx in BF16, 4 confident key points of the first 2 crops: 4.00 px of the crop from FP32's in the median, "
        "4.00 px at 95 %"
    )


@pytest.mark.parametrize(("value", "score"), [(0.0, 1.0), (1.0, 0.2)])
def test_a_warm_up_and_unsure_key_points_are_not_compared(value: float, score: float):
    runtime = ComparedRuntime(Peaks(4), Peaks(5, score))

    runtime.run(crops(3, value))

    assert runtime.cost().endswith("nothing to compare with FP32")


def test_a_cpu_without_bf16_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openvino, "bf16_instructions", list)

    with pytest.raises(BackendError, match="this CPU has no BF16"):
        load_runtime(write_toy_model(tmp_path / "m.onnx"), backend=BF16)


@pytest.mark.parametrize("options", [{"exact": True}, {"store_fp16": True}])
def test_what_judges_a_file_takes_no_bf16(tmp_path: Path, options: dict[str, bool]):
    with pytest.raises(ValueError, match="BF16 judges no file"):
        load_backend(tmp_path / "m.onnx", backend=BF16, **options)


@needs_bf16
@pytest.mark.parametrize(("precision", "told"), [("fp32", "BF16"), ("fp16", "BF16"), ("int8", "the rest in BF16")])
def test_bf16_gives_nearly_the_same_heat_maps(tmp_path: Path, precision: str, told: str):
    model = write_toy_model(tmp_path / "m.onnx", precision=precision)
    pictures = np.random.default_rng(0).random((3, 3, 64, 48), dtype=np.float32)

    with load_backend(model) as sure, compared_in_fp32(model)[0] as fast:
        wanted, found = sure.heatmaps(pictures), fast.heatmaps(pictures)

    assert fast.arithmetic.endswith(told)
    step = 2 * TOY_STEP if precision == "int8" else 0  # what lies between two steps may go to either
    assert np.abs(found - wanted).max() <= 8 * 2**-9 * np.abs(wanted).max() + step  # of some roundings to 8 bits


@needs_bf16
def test_infer_says_what_bf16_costs(tmp_path: Path):
    model = write_toy_model(tmp_path / "m.onnx")
    write_image(tmp_path / "a.png", dots_image((8, 12), (28, 40)))

    arguments = ["infer", "--engine", model, "--input", tmp_path / "a.png", "--boxes", "whole", "-o", tmp_path / "o"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--backend", BF16])

    assert result.exit_code == 0, result.output
    assert "network: BF16 (openvino-bf16)" in result.stdout
    assert "m.onnx in BF16, 2 confident key points of the first 1 crops" in result.stderr
