"""Plans of networks with any inputs and outputs, on a stand-in device. Nothing here runs on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepose.backends import load_backend, load_runtime
from edgepose.errors import BackendError, EngineMismatchError, ModelFileError
from edgepose.model.heads.fields import Fields
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import Input, ModelSpec
from tests.fake_device.install import fake_device, write_plan_of
from tests.fake_device.trt import ExecutionContext

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
TWO = Skeleton("two", ("head", "hip"), flip_pairs=(), limbs=((0, 1),), sigmas=(0.05, 0.05))
# three heat maps (background too) and two fields, of an image each
SPEC = ModelSpec(
    "maps",
    Input((8, 16), "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize="plain"),
    Fields((2, 4), limbs=((0, 1),), fields=(0,), fill_limbs=0),
    TWO,
    None,
)


@pytest.fixture
def gpu():
    with fake_device() as gpu:
        yield gpu
        assert gpu.problems == []


def write_two_outputs(path: Path) -> Path:
    """images -> heatmaps: the image averaged over 4x4; pafs: twice its first two channels."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AveragePool", ["images"], ["heatmaps"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Slice", ["heatmaps", "zero", "two", "one"], ["first"]),
        helper.make_node("Mul", ["first", "factor"], ["pafs"]),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "one": np.array([1])}
    values = [numpy_helper.from_array(value.astype(np.int64), name) for name, value in constants.items()]
    values.append(numpy_helper.from_array(np.array(2, np.float32), "factor"))
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 16])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", maps, 2, 4])
            for name, maps in (("heatmaps", 3), ("pafs", 2))
        ],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def plan_in(folder: Path, **settings) -> Path:
    return write_plan_of(write_two_outputs(folder / "m.onnx"), folder / "m.plan", SPEC, **settings)


def pooled(images: np.ndarray) -> np.ndarray:
    count = len(images)
    return images.reshape(count, 3, 2, 4, 4, 4).mean(axis=(3, 5))


@pytest.mark.parametrize("count", [0, 1, 3, 4])
@pytest.mark.parametrize(
    ("types", "tolerance"), [({}, 1e-6), ({"images": "HALF", "pafs": "HALF"}, 4e-3)], ids=["fp32", "fp16"]
)
def test_every_output_comes_back_for_every_row(gpu, tmp_path, count, types, tolerance):
    images = np.random.default_rng(0).random((count, 3, 8, 16), np.float32)  # under 2: an ulp of FP16 is 1/1024
    runtime = load_runtime(plan_in(tmp_path, max_batch=3, **types))

    found = runtime.run({"images": images})

    assert {name: (array.shape, array.dtype.name) for name, array in found.items()} == {
        "heatmaps": ((count, 3, 2, 4), "float32"),
        "pafs": ((count, 2, 2, 4), "float32"),
    }
    np.testing.assert_allclose(found["heatmaps"], pooled(images), atol=tolerance)
    np.testing.assert_allclose(found["pafs"], 2 * pooled(images)[:, :2], atol=tolerance)
    assert (runtime.name, runtime.passport.spec) == ("tensorrt", SPEC)
    runtime.close()
    assert gpu.live == {}


def test_results_are_the_callers_own(gpu, tmp_path):
    runtime = load_runtime(plan_in(tmp_path))
    ones = np.ones((1, 3, 8, 16), np.float32)

    first = runtime.run({"images": ones})["pafs"]
    runtime.run({"images": 5 * ones})

    assert (first == 2).all()


def test_a_batch_that_a_profile_of_its_own_is_tuned_for_runs_with_that(gpu, tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(
        ExecutionContext, "set_optimization_profile_async", lambda _, index, __: chosen.append(index) or True
    )
    monkeypatch.setattr(ExecutionContext, "profile", property(lambda _: 0, lambda *_: None), raising=False)
    runtime = load_runtime(plan_in(tmp_path, alone=True))

    for count in (2, 1, 1):
        runtime.run({"images": np.zeros((count, 3, 8, 16), np.float32)})

    assert chosen == [1]  # for one row, once: the context stays


@pytest.mark.parametrize(
    "arrays",
    [{}, {"images": np.zeros((1, 3, 8, 15), np.float32)}, {"images": np.zeros((1, 3, 8, 16))}],
    ids=["missing", "size", "float64"],
)
def test_other_inputs_are_a_callers_mistake(gpu, tmp_path, arrays):
    with pytest.raises(ValueError, match=r"images (must be|is missing)"):
        load_runtime(plan_in(tmp_path)).run(arrays)


def test_a_closed_runtime_and_one_whose_device_failed_say_so(gpu, tmp_path):
    plan, images = plan_in(tmp_path), {"images": np.zeros((1, 3, 8, 16), np.float32)}
    closed, broken = load_runtime(plan), load_runtime(plan)

    closed.close()
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        closed.run(images)
    gpu.lost = "unspecified launch failure"
    for expected in ("the GPU failed on .*m.plan: .*unspecified launch failure", "failed before"):
        with pytest.raises(BackendError, match=expected):
            broken.run(images)
    broken.close()
    gpu.problems.clear()  # what close gave up is freed with the process


def test_what_opens_no_plan_says_what_to_do(gpu, tmp_path):
    plan = plan_in(tmp_path)

    with pytest.raises(BackendError, match="openvino cannot run: give the ONNX"):
        load_runtime(plan, backend="openvino")
    with pytest.raises(ModelFileError, match="does not find one person's key points in a crop"):
        load_backend(plan)
    with pytest.raises(EngineMismatchError, match="was built for another Orin"):
        load_runtime(plan_in(tmp_path, engine={"gpu": "another Orin"}))
    gpu.memory_left = 4000
    with pytest.raises(BackendError, match="memory does not hold"):
        load_runtime(plan_in(tmp_path))


def test_orins_of_one_name_and_as_many_sms_are_told_apart_by_their_memory(gpu, tmp_path):
    load_runtime(plan_in(tmp_path, engine={"multiprocessors": 16, "memory_mib": 15_900})).close()

    with pytest.raises(EngineMismatchError, match=r"16 SMs and 7620 MiB, this is .* with 16 SMs and 15656 MiB"):
        load_runtime(plan_in(tmp_path, engine={"multiprocessors": 16, "memory_mib": 7620}))


def test_orins_of_one_name_are_told_apart_by_their_sms(gpu, tmp_path):
    load_runtime(plan_in(tmp_path, engine={"multiprocessors": 16})).close()

    with pytest.raises(EngineMismatchError, match=r"Fake Orin \(sm_87\) with 8 SMs, this is Fake Orin .* with 16 SMs"):
        load_runtime(plan_in(tmp_path, engine={"multiprocessors": 8}))
