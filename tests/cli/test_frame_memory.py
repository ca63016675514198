"""--frame-memory of infer and benchmark, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend
from edgepose.cli import main
from edgepose.cli.options import frame_memory_option
from edgepose.errors import BackendError
from edgepose.io.images import write_image
from edgepose.stages.frames import MEMORIES
from tests.fake_device.install import fake_device, write_plan_of, write_toy_plan
from tests.makers import dots_image, dots_spec, smooth_image
from tests.nvcc import needs_nvcc
from tests.trt.test_every_kind import SPECS, write_network_of


def invoke(*words: object):
    return CliRunner().invoke(main, [str(word) for word in words])


@needs_nvcc
@pytest.mark.parametrize(("words", "lent"), [(["--frame-memory", "managed"], True), ([], False)])
def test_infer_and_benchmark_read_frames_from_the_memory_that_is_asked_for(tmp_path, words, lent):
    pytest.importorskip("onnxruntime")
    write_image(tmp_path / "p.png", dots_image((8, 20), (28, 40)))
    with fake_device() as gpu:
        plan = write_toy_plan(tmp_path / "m.plan", dots_spec(), max_batch=1)
        infer = ("infer", "--engine", plan, "--input", tmp_path / "p.png", "--boxes", "whole", "-o", tmp_path / "out")
        done = invoke(*infer, *words)
        assert ("lend" in gpu.launched) is lent
        gpu.launched.clear()
        timed = invoke("benchmark", "--engine", plan, "--batch", 1, "--seconds", 0.01, "--json", *words)
        assert ("lend" in gpu.launched) is lent

    assert done.exit_code == 0, done.output
    assert timed.exit_code == 0, timed.output
    assert json.loads(timed.stdout)["conditions"].get("frame memory") == ("managed" if lent else None)


def test_an_onnx_has_none(tmp_path):
    model = write_toy_plan(tmp_path / "m.plan", dots_spec()).with_suffix(".onnx")

    picture = write_image(tmp_path / "p.png", dots_image((8, 20), (28, 40))) or tmp_path / "p.png"

    for command in (("infer", "--input", picture), ("benchmark",)):
        result = invoke(command[0], "--engine", model, *command[1:], "--frame-memory", "mapped")
        assert result.exit_code == 2
        assert f"--frame-memory goes with TensorRT plans; {model} is none" in " ".join(result.output.split())


@pytest.mark.parametrize("name", ["simcc_in_space", "volume", "tags"])
def test_plans_whose_frames_the_cpu_reads_have_none(tmp_path, name):
    pytest.importorskip("onnx")
    (spec,) = (spec for spec in SPECS if spec.name == name)
    write_image(tmp_path / "p.png", smooth_image())
    said = f"the CPU reads the frames of {tmp_path / 'm.plan'} ({spec.head.kind})"
    with fake_device():
        plan = write_plan_of(write_network_of(tmp_path / "m.onnx", spec), tmp_path / "m.plan", spec, max_batch=2)
        boxes = ("--boxes", "whole") if spec.region else ()
        for command in (("infer", "--input", tmp_path / "p.png", *boxes, "-o", tmp_path / "out"), ("benchmark",)):
            result = invoke(*command, "--engine", plan, "--frame-memory", "mapped")
            assert result.exit_code == 2, result.output
            assert said in " ".join(result.output.split())
        if spec.region:
            with pytest.raises(BackendError, match=f"gives {spec.head.kind}, and the CPU reads its frames"):
                load_backend(plan, frame_memory="mapped")


def test_the_choices_are_those_of_load_backend():
    @frame_memory_option
    def command() -> None:
        """Nothing."""

    (option,) = command.__click_params__  # type: ignore[attr-defined]
    assert option.type.choices == MEMORIES
