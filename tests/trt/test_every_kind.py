"""A plan of each kind of head: NVIDIA's builder makes it, and what opens the ONNX opens it and finds the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.backends import load_backend, load_runtime
from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.cli import main
from edgepose.errors import BackendError
from edgepose.estimate.detect import EMBEDDED, find_people, load_detector
from edgepose.estimate.lift import open_lifter
from edgepose.estimate.top_down import estimate_poses
from edgepose.estimate.whole import estimate_people
from edgepose.files import sha256_of
from edgepose.io.images import write_image
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.people import People
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport, write_passport
from edgepose.model.skeletons import COCO17, H36M17, NO_KEYPOINTS, OPENPOSE18, Skeleton
from edgepose.model.spec import Input, ModelSpec, Region
from edgepose.stages.crop import cut_out
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import decode_outputs
from tests.fake_device.install import fake_device, write_plan_of
from tests.makers import TWO_POINTS, smooth_image
from tests.nvcc import has_nvcc

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CROP, WHOLE = Input((32, 24)), Input((32, 32), resize="letterbox")
POINTS = Skeleton("three", (*TWO_POINTS.keypoints, "pelvis"), flip_pairs=())
YOLO = Detections("yolo", classes=1, candidates=21, min_score=0.0)
SPECS = [
    ModelSpec("simcc", CROP, SimCC(), POINTS, Region()),
    ModelSpec("simcc_in_space", CROP, SimCC(depth_bins=20), POINTS, Region()),
    ModelSpec("volume", CROP, Volume((4, 8, 6)), POINTS, Region()),
    ModelSpec("fields", WHOLE, Fields((4, 4)), OPENPOSE18),
    ModelSpec("tags", WHOLE, Tags((8, 8)), COCO17),
    ModelSpec("people", WHOLE, People("yolo", candidates=21), COCO17),
    ModelSpec("detections", WHOLE, YOLO, NO_KEYPOINTS),
    ModelSpec("lift", None, Lift(3), H36M17),
]
EVERY = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
BOXES = np.array([[10, 20, 70, 110], [40, 5, 130, 100], [0, 0, 160, 120]], np.float32)


def write_network_of(path: Path, spec: ModelSpec, batch: int | str = "n") -> Path:
    """A passported ONNX with the spec's inputs and outputs: each output is a fixed mix of the squares of 24 means."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ((name, shape),) = spec.inputs.items()
    rng = np.random.default_rng(0)
    width = int(np.prod(shape))
    parts = 24 if width % 24 == 0 else 1
    values = {"rows": np.array([-1, parts, width // parts])}
    nodes = [
        helper.make_node("Reshape", [name, "rows"], ["parts"]),
        helper.make_node("ReduceMean", ["parts"], ["mean"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["mean", "mean"], ["means"]),
    ]
    for output, sizes in spec.outputs.items():
        values[f"mix_{output}"] = rng.random((parts, int(np.prod(sizes)))).astype(np.float32)
        values[f"shape_{output}"] = np.array([-1, *sizes])
        nodes.append(helper.make_node("MatMul", ["means", f"mix_{output}"], [f"flat_{output}"]))
        nodes.append(helper.make_node("Reshape", [f"flat_{output}", f"shape_{output}"], [output]))
    ports = [
        [helper.make_tensor_value_info(port, TensorProto.FLOAT, [batch, *sizes]) for port, sizes in named.items()]
        for named in (spec.inputs, spec.outputs)
    ]
    constants = [numpy_helper.from_array(value, key) for key, value in values.items()]
    graph = helper.make_graph(nodes, "network", *ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    write_passport(path, Passport(spec, "fp32", sha256_of(path), "toy"))
    return path


def found_by(spec: ModelSpec, path: Path, **options: Any) -> list[np.ndarray]:
    """What the commands find with a file, opened as they open it."""
    image = smooth_image()
    if spec.name == "detections":
        detector = load_detector(path, **options)
        return [*find_people(detector, image)]
    if spec.name == "lift":
        xy = np.random.default_rng(1).uniform(10, 90, (5, 17, 2))
        return [open_lifter(path, **options).track(np.arange(5), xy, np.ones((5, 17)), H36M17, (160, 120))]
    if spec.region is not None:
        poses = estimate_poses(load_backend(path, **options), image, BOXES)
    else:
        poses, _ = estimate_people(load_runtime(path, **options), image)
    return [poses.xy, poses.scores, poses.boxes_xyxy, *([] if poses.xyz is None else [poses.xyz])]


@EVERY
def test_infer_finds_with_a_plan_what_it_finds_with_the_onnx(tmp_path: Path, spec: ModelSpec):
    model = write_network_of(tmp_path / "m.onnx", spec)
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, max_batch=2)

        found = found_by(spec, plan)

        assert gpu.problems == []
    expected = found_by(spec, model, backend="onnxruntime")
    assert len(expected[0])
    # the stand-in runs the ONNX with ONNX Runtime too. The kernel of volumes adds in another order than numpy; that of
    # crops reads the image at exact places, OpenCV at 1/32 px: here 0.003 of a score of 33, and no other bin; fields
    # have heights up to 4, which the kernel interpolates in another order than OpenCV
    tolerance = {"volume": 1e-4 * 160, "simcc": 0.01, "fields": 1e-5}.get(spec.name, 0)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def write_network_that_sees(path: Path, spec: ModelSpec, maps: dict[str, np.ndarray]) -> Path:
    """A passported ONNX that gives the same maps whatever the picture, of values that FP16 has too."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1)]
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    nodes += [helper.make_node("Add", ["nothing", f"drawn_{name}"], [name]) for name in maps]
    values = {"zero": np.float32(0), **{f"drawn_{name}": rounded(array)[None] for name, array in maps.items()}}
    ports = [
        [helper.make_tensor_value_info(port, TensorProto.FLOAT, ["n", *sizes]) for port, sizes in named.items()]
        for named in (spec.inputs, spec.outputs)
    ]
    constants = [numpy_helper.from_array(np.asarray(value), key) for key, value in values.items()]
    graph = helper.make_graph(nodes, "network", *ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    write_passport(path, Passport(spec, "fp32", sha256_of(path), "toy"))
    return path


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


def bottom_up_network(path: Path, name: str) -> tuple[Path, ModelSpec]:
    """A network of one kind that sees five drawn people in each picture."""
    rng, hw = np.random.default_rng(5), (46, 62)
    points = draw_people(5, hw, rng, height=30)
    picture = Input((92, 124), resize="letterbox")
    heatmaps, drawn = draw_maps(points, hw, rng)
    background = np.zeros((1, *hw), np.float32)
    if name == "tags":
        points, drawn = points[:, COCO17_OF_18], drawn[:, COCO17_OF_18]
        maps = {"heatmaps": heatmaps[list(COCO17_OF_18)], "tags": draw_tags(points, drawn, hw, rng, apart=3)}
        spec = ModelSpec(name, picture, Tags(hw, upsample=2), COCO17)
        return write_network_that_sees(path, spec, maps), spec
    maps = {"heatmaps": np.concatenate([heatmaps, background]), "pafs": draw_fields(points, drawn, hw, rng)}
    if name == "joined":
        maps = {"heatmaps": np.concatenate(list(maps.values()))}
    spec = ModelSpec(name, picture, Fields(hw, joined=name == "joined"), OPENPOSE18)
    return write_network_that_sees(path, spec, maps), spec


ASKED = {"fields": "strengths", "joined": "strengths", "tags": "best"}


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("name", ["fields", "joined", "tags"])
def test_a_bottom_up_networks_maps_stay_on_the_gpu(tmp_path: Path, monkeypatch, name: str, half: bool):
    model, spec = bottom_up_network(tmp_path / "m.onnx", name)
    types = dict.fromkeys(spec.outputs, "HALF") if half else {}
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, **types)
        runtime = load_runtime(plan)
        down = []
        monkeypatch.setattr(
            runtime._stream,
            "download",
            lambda array, address, inner=runtime._stream.download: (down.append(array.nbytes), inner(array, address)),
        )

        found, scores = estimate_people(runtime, smooth_image())
        first = sum(down)
        again, _ = estimate_people(runtime, smooth_image())

        assert {f"enlarge_f{16 if half else 32}", f"{ASKED[name]}_f{16 if half else 32}"} <= set(gpu.launched)
        assert sum(down) == 2 * first
        np.testing.assert_array_equal(again.xy, found.xy)
        runtime.close()
        assert gpu.problems == []
        assert gpu.live == {}
    maps_bytes = sum(4 * int(np.prod(shape)) for shape in spec.outputs.values())
    assert first < maps_bytes / (2 if half else 1) / 8
    expected, wanted = estimate_people(load_runtime(model, backend="onnxruntime"), smooth_image())
    assert len(expected) >= 5
    np.testing.assert_allclose(found.xy, expected.xy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["fields", "tags"])
def test_a_bottom_up_plan_without_kernels_brings_its_maps_down(tmp_path: Path, name: str):
    model, spec = bottom_up_network(tmp_path / "m.onnx", name)
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, engine={"kernels": None})

        found, _ = estimate_people(load_runtime(plan), smooth_image())

        assert not any(launched.startswith(("enlarge", "strengths", "best")) for launched in gpu.launched)
    expected, _ = estimate_people(load_runtime(model, backend="onnxruntime"), smooth_image())
    np.testing.assert_array_equal(found.xy, expected.xy)


def test_the_flip_test_of_a_bottom_up_plan_brings_its_maps_down(tmp_path: Path):
    model, spec = bottom_up_network(tmp_path / "m.onnx", "tags")
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec)

        found, _ = estimate_people(load_runtime(plan), smooth_image(), flip_test=True)

        assert "enlarge_f32" not in gpu.launched
    expected, _ = estimate_people(load_runtime(model, backend="onnxruntime"), smooth_image(), flip_test=True)
    np.testing.assert_array_equal(found.xy, expected.xy)


DECODED = {"simcc_in_space": ["simcc_f32", "depth_f32"], "volume": ["volume_f32"]}
OF_CROPS = pytest.mark.parametrize("spec", SPECS[1:3], ids=lambda spec: spec.name)


@OF_CROPS
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("max_batch", [1, 2, 5, 8])
def test_vectors_and_volumes_are_read_on_the_gpu(tmp_path: Path, spec: ModelSpec, flip_test: bool, max_batch: int):
    model = write_network_of(tmp_path / "m.onnx", spec)
    regions = Regions.around(BOXES, spec)
    with fake_device() as gpu:
        backend = load_backend(write_plan_of(model, tmp_path / "m.plan", spec, max_batch=max_batch))
        gpu.launched.clear()

        found = backend.keypoints(smooth_image(), regions, flip_test=flip_test)

        launched = [name for name in gpu.launched if name in ("simcc_f32", "depth_f32", "volume_f32", "download")]
        none = backend.keypoints(smooth_image(), regions.rows(slice(0, 0)), flip_test=flip_test)
        backend.close()
        assert gpu.problems == []
        assert gpu.live == {}
    expected = load_backend(model, backend="onnxruntime").keypoints(smooth_image(), regions, flip_test=flip_test)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4 * 160 if spec.name == "volume" else 1e-6)
    assert none.shape == (0, *expected.shape[1:])
    if flip_test and max_batch == 1:  # a crop and its mirror image do not fit into one run: the CPU reads the outputs
        assert set(launched) == {"download"}
    else:
        runs = -(-len(BOXES) // (max_batch // (1 + flip_test)))
        assert launched == [*DECODED[spec.name], "download"] * runs  # key points alone come down


@OF_CROPS
@pytest.mark.parametrize("flip_test", [False, True])
def test_a_warm_up_decodes_on_the_gpu_and_pins_no_memory_of_outputs(tmp_path: Path, spec: ModelSpec, flip_test: bool):
    with fake_device() as gpu:
        plan = write_plan_of(write_network_of(tmp_path / "m.onnx", spec), tmp_path / "m.plan", spec, max_batch=2)
        backend = load_backend(plan)
        gpu.launched.clear()

        backend.warm_up(flip_test=flip_test)

        assert set(DECODED[spec.name]) <= set(gpu.launched)
        held = set(gpu.live)
        backend.keypoints(smooth_image(), Regions.around(BOXES[:1], spec), flip_test=flip_test)
        assert set(gpu.live) == held  # the first frame allocates nothing more
        runtime = backend.runtime  # type: ignore[attr-defined]
        assert set(runtime._pinned) == {"crops"}
        assert set(runtime._network._contexts) == {1 + flip_test}
        assert gpu.problems == []


@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: spec.name)
def test_a_plan_without_kernels_is_read_on_the_cpu(tmp_path: Path, spec: ModelSpec):
    model = write_network_of(tmp_path / "m.onnx", spec)
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, engine={"kernels": None})

        found = found_by(spec, plan)

        assert {"upload", "download"} >= {name for name in gpu.launched if not name.startswith("network")}
    for ours, theirs in zip(found, found_by(spec, model, backend="onnxruntime"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@OF_CROPS
def test_vectors_in_half_precision_are_read_on_the_gpu(tmp_path: Path, spec: ModelSpec):
    model = write_network_of(tmp_path / "m.onnx", spec)
    types = dict.fromkeys(spec.outputs, "HALF")
    regions = Regions.around(BOXES, spec)
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, **types)
        found = load_backend(plan).keypoints(smooth_image(), regions)
        outputs = load_runtime(plan).run({"crops": cut_out(smooth_image(), regions, spec)})

        assert DECODED[spec.name][0].replace("32", "16") in gpu.launched
    expected, grid_hw = decode_outputs(outputs, spec)
    expected[..., :2] = regions.to_image(expected[..., :2], grid_hw)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4 * 160 if spec.name == "volume" else 1e-6)


@pytest.mark.parametrize("name", ["people", "tags", "simcc_in_space"])
def test_the_infer_command_writes_with_a_plan_what_it_writes_with_the_onnx(tmp_path: Path, name: str):
    spec = next(spec for spec in SPECS if spec.name == name)
    model = write_network_of(tmp_path / "m.onnx", spec)
    write_image(tmp_path / "1.png", smooth_image())
    found = {}
    with fake_device() as gpu:
        plan = write_plan_of(model, tmp_path / "m.plan", spec, max_batch=2)
        for path, options in ((plan, []), (model, ["--backend", "onnxruntime"])):
            out = tmp_path / path.suffix
            arguments = ["--engine", path, "--input", tmp_path / "1.png", "--no-save-overlay", "-o", out]
            arguments += ["--boxes", "whole"] if spec.region else ["--min-box-score", "0"]
            result = CliRunner().invoke(main, ["infer", *map(str, arguments), *options])
            assert result.exit_code == 0, result.output
            found[path.suffix] = json.loads((out / "keypoints.json").read_text())
        assert gpu.problems == []

    assert found[".plan"]
    assert found[".plan"] == found[".onnx"]


@EVERY
def test_nvidias_parser_and_builder_take_it(tmp_path: Path, spec: ModelSpec):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    model = write_network_of(tmp_path / "m.onnx", spec)

    options = ["--runtime", "tensorrt_rtx", "--target", "sm_86"] + ["--no-kernels"] * (not has_nvcc())

    result = CliRunner().invoke(main, ["build", str(model), *options])

    assert result.exit_code == 0, result.output
    assert "batch 1 to 8)" in result.output
    with_kernels = spec.name in {"simcc", *DECODED, *ASKED} and has_nvcc()  # others need none, and no nvcc
    assert (tmp_path / "m.plan.fatbin").exists() == with_kernels


def test_nvidias_parser_and_builder_take_the_embedded_detector(tmp_path: Path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
    options = ["--runtime", "tensorrt_rtx", "--target", "sm_86", "-o", str(tmp_path / "m.plan")]

    result = CliRunner().invoke(main, ["build", str(EMBEDDED), *options])

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("opens", [load_detector, open_lifter, load_backend, load_runtime])
def test_a_plan_where_no_gpu_is_says_so(tmp_path: Path, monkeypatch, opens: Callable[..., Any]):
    name = {load_detector: "detections", open_lifter: "lift"}.get(opens, "simcc")
    spec = next(spec for spec in SPECS if spec.name == name)
    plan = write_plan_of(write_network_of(tmp_path / "m.onnx", spec), tmp_path / "m.plan", spec)
    monkeypatch.setattr("edgepose.machine.gpu.find_gpu", lambda: None)

    with pytest.raises(BackendError, match=r"m\.plan runs on a GPU, and no NVIDIA GPU or driver was found"):
        opens(plan)
