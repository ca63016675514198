"""Which of several plans stays: timed and compared on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.errors import BuildError, InputError, ModelFileError
from edgepose.evaluation.best import Candidate, candidates_of, fastest, measure_candidates, rows_of
from edgepose.files import sha256_of
from edgepose.io.images import write_image
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.trt.build import BuildReport
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import dots_image, dots_spec, write_toy_model
from tests.nvcc import needs_nvcc

SPEC = dots_spec()
BOXES = np.array([[0, 0, 48, 64]], np.float32)
PICTURES = [(dots_image((8, 20), (28, 40)), BOXES)]


def candidate(name: str, ms: float, mean: float | None) -> Candidate:
    shift = None if mean is None else {"mean": mean, "p95": 2 * mean, "max": 3 * mean, "share_over_1": 0.0}
    return Candidate(Path(f"m.{name}.onnx"), Path(name), name, ms / 4, ms, shift)


@pytest.mark.parametrize(
    ("candidates", "budget", "kept"),
    [
        ([], 0.5, None),
        ([candidate("fp16", 4, 0.01), candidate("int8", 3, 0.2)], 0.5, "int8"),
        ([candidate("fp16", 4, 0.01), candidate("int8", 5, 0.2)], 0.5, "fp16"),
        ([candidate("fp16", 4, 0.01), candidate("int8", 3, 0.6)], 0.5, "fp16"),
        ([candidate("int8", 3, 0.6)], 0.5, None),
        ([candidate("int8", 3, math.nan)], 0.5, None),
        ([candidate("int8", 3, None)], 0.5, None),
        ([candidate("int8", 3, None)], math.inf, "int8"),
    ],
)
def test_the_fastest_within_the_budget_stays(candidates, budget, kept):
    best = fastest(candidates, budget)

    assert (best.precision if best else None) == kept


def test_the_table_names_what_is_beyond_the_budget():
    rows = rows_of([candidate("fp16", 4, 0.01), candidate("int8", 3, 0.6)], 8, 0.5)

    assert rows[0] == ["", "1 person", "8 people", "shift mean", "p95", "over 1 px", ""]
    assert rows[1] == ["m.fp16.onnx", "1.00 ms", "4.00 ms", "0.010 px", "0.02 px", "0.0%", ""]
    assert rows[2][-1] == "not within the budget"


def network(folder: Path) -> Path:
    """m.onnx, m.fp16.onnx and m.int8.onnx, which are one toy network."""
    for name, precision in (("m", "fp32"), ("m.fp16", "fp16"), ("m.int8", "int8")):
        onnx = write_toy_model(folder / f"{name}.onnx", SPEC, batch="N")
        write_passport(onnx, Passport(SPEC, precision, sha256_of(onnx), "toy"))
    return folder / "m.onnx"


def test_candidates_lie_beside_and_others_are_of_the_same_network(tmp_path):
    onnx = network(tmp_path)

    for given in ("m.onnx", "m.fp16.onnx", "m.int8.onnx"):
        assert candidates_of(tmp_path / given) == (onnx, [tmp_path / "m.fp16.onnx", tmp_path / "m.int8.onnx"])
    other = write_toy_model(tmp_path / "o.onnx", SPEC.changed(name="other"), batch="N")
    with pytest.raises(ModelFileError, match="is of other, and"):
        candidates_of(onnx, [other])
    (tmp_path / "m.fp16.onnx").unlink()
    (tmp_path / "m.int8.onnx").unlink()
    with pytest.raises(ModelFileError, match=r"neither m\.fp16\.onnx nor m\.int8\.onnx"):
        candidates_of(onnx)


@needs_nvcc
def test_a_plan_whose_key_points_move_is_measured_so(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = network(tmp_path)
    with fake_device():
        right = write_plan_of(onnx, tmp_path / "right.plan", SPEC, max_batch=2)
        nan = write_plan_of(onnx, tmp_path / "nan.plan", SPEC, max_batch=2, nan=True)

        found = measure_candidates(onnx, [(onnx, right), (onnx, nan)], PICTURES, seconds=0.01)

        with pytest.raises(InputError, match="usable box"):
            measure_candidates(onnx, [(onnx, right)], [(PICTURES[0][0], BOXES[:0])])

    assert [each.within(0.5) for each in found] == [True, False]
    assert all(each.ms_one > 0 for each in found)
    assert all(each.ms_most > 0 for each in found)


@needs_nvcc
def test_build_best_keeps_what_is_within_the_budget_and_what_cannot_be_built_is_said(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    onnx = network(tmp_path)
    write_image(tmp_path / "p.png", PICTURES[0][0])

    def build(source, plan, options, *, runtime, progress):
        if source.name == "m.int8.onnx":
            raise BuildError("no INT8 here")
        path = write_plan_of(source, plan, SPEC, max_batch=options.max_batch)
        return BuildReport(path, read_passport(path), (), 1)

    monkeypatch.setattr("edgepose.trt.build.build_engine", build)
    with fake_device():
        words = ["build", str(onnx), "--best", "--max-batch", "1", "--images", str(tmp_path / "p.png")]
        done = CliRunner().invoke(main, words)

    assert done.exit_code == 0, done.output
    assert "not built: m.int8.onnx: no INT8 here" in done.output
    assert f"kept {tmp_path / 'm.plan'}: m.fp16.onnx, the fastest within 0.5 px" in done.output
    assert read_passport(tmp_path / "m.plan").made_from == {"m.fp16.onnx": sha256_of(tmp_path / "m.fp16.onnx")}
    verdict = read_passport(tmp_path / "m.plan").plan.verdict
    assert verdict is not None
    assert verdict.agrees
    assert sorted(path.name for path in tmp_path.iterdir() if "plan" in path.name) == [
        "m.plan",
        "m.plan.fatbin",
        "m.plan.json",
    ]


def test_options_of_best_want_it(tmp_path):
    for words in (["--also", "x.onnx"], ["--images", "x"], ["--best", "--target", "sm_86"]):
        done = CliRunner().invoke(main, ["build", str(tmp_path / "m.onnx"), *words])
        assert done.exit_code == 2, done.output


def test_what_nothing_can_be_built_for_is_said_once(tmp_path, monkeypatch):
    onnx = network(tmp_path)

    def build(source, plan, options, *, runtime, progress):
        raise BuildError("TensorRT is not here")

    monkeypatch.setattr("edgepose.trt.build.build_engine", build)
    write_image(tmp_path / "p.png", PICTURES[0][0])
    with fake_device():
        done = CliRunner().invoke(main, ["build", str(onnx), "--best", "--images", str(tmp_path / "p.png")])

    assert done.exit_code == 1
    assert done.stderr == "edgepose: none of m.fp16.onnx, m.int8.onnx could be built: TensorRT is not here\n"
