from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepose.backends import BACKENDS, host, load_backend
from edgepose.errors import BackendError, MissingPackageError, ModelFileError
from edgepose.files import sha256_of
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.model.skeletons import Skeleton
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out
from edgepose.stages.decode import decode_heatmaps
from edgepose.stages.geometry import Regions
from edgepose.timing import measured
from tests.fake_device.install import fake_device, write_toy_plan
from tests.makers import dots_image, dots_spec, make_spec, smooth_image, toy_heatmaps, write_toy_model
from tests.nvcc import needs_nvcc

UNPAIRED = Skeleton("unpaired", ("red", "blue"), flip_pairs=())
WHOLE = np.array([[0, 0, 48, 64]], np.float32)


@pytest.fixture(params=BACKENDS)
def host_name(request):
    """A backend that crops and decodes on the CPU."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(params=[*BACKENDS, pytest.param("tensorrt", marks=needs_nvcc)])
def name(request):
    """Any backend; TensorRT on a stand-in for the GPU: see tests/fake_device."""
    if request.param == "tensorrt":
        with fake_device() as gpu:
            yield request.param
            assert gpu.problems == []
    else:
        pytest.importorskip(request.param)
        yield request.param


def write_model(name: str, folder: Path, spec: ModelSpec | None = None, batch: int | str = "N") -> Path:
    if name == "tensorrt":
        return write_toy_plan(folder / "m.plan", spec, batch=batch, max_batch=batch if isinstance(batch, int) else 8)
    return write_toy_model(folder / "m.onnx", spec, batch=batch)


def random_crops(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 3, 64, 48), dtype=np.float32)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_heatmaps_are_those_of_numpy_whatever_batch_the_graph_takes(tmp_path, name, batch, count):
    backend = load_backend(write_model(name, tmp_path, batch=batch), backend=name)
    crops = random_crops(count)

    heatmaps = backend.heatmaps(crops)

    assert heatmaps.dtype == np.float32
    np.testing.assert_allclose(heatmaps, toy_heatmaps(crops), atol=2e-6)  # BF16 would be off by 4e-3


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-3), ("int8", 1e-6)])  # FP16 has 11 bits
def test_openvino_computes_fp16_and_int8_files_as_they_are_meant(tmp_path, precision, tolerance):
    backend = load_backend(write_toy_model(tmp_path / "m.onnx", precision=precision), backend="openvino")
    # away from the middle between two INT8 steps, where rounding may go either way
    levels = np.random.default_rng(0).integers(0, 60, (3, 3, 16, 12)) / 64 + 0.004
    crops = levels.repeat(4, axis=2).repeat(4, axis=3).astype(np.float32)

    heatmaps = backend.heatmaps(crops)

    np.testing.assert_allclose(heatmaps, toy_heatmaps(crops, precision), atol=tolerance)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_onnxruntime_refuses_what_it_computes_wrongly_and_says_what_to_install(tmp_path, precision):
    path = write_toy_model(tmp_path / "m.onnx", precision=precision)

    with pytest.raises(BackendError, match=r"pip install 'edgepose\[cpu\]'"):
        load_backend(path, backend="onnxruntime")


@pytest.mark.parametrize("flip_test", [False, True])
def test_finds_key_points_where_they_were_drawn(tmp_path, name, flip_test):
    spec = dots_spec(skeleton=UNPAIRED, flip_shift=0)
    backend = load_backend(write_model(name, tmp_path, spec), backend=name)

    keypoints = backend.keypoints(dots_image((8, 20), (28, 40)), Regions.around(WHOLE, spec), flip_test=flip_test)

    np.testing.assert_allclose(keypoints, [[[8, 20, 1], [28, 40, 1]]], atol=1e-5)


def test_another_decoder_can_be_asked_for(tmp_path, name):
    spec = dots_spec(decoder="argmax", skeleton=UNPAIRED)
    backend = load_backend(write_model(name, tmp_path, spec), backend=name)
    regions = Regions.around(WHOLE, spec)
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)

    coarse = backend.keypoints(image, regions)
    fine = backend.keypoints(image, regions, decoder="dark")

    exact = spec.changed(decoder="dark")
    expected = decode_heatmaps(backend.heatmaps(cut_out(image, regions, spec)), exact)
    wanted = regions.to_image(expected[..., :2], spec.heatmaps.size_hw)
    np.testing.assert_allclose(fine[..., :2], wanted, atol=4e-3)  # the GPU refines to 1e-3 heat-map px
    assert np.abs(fine - coarse).max() > 0.01


def test_no_people_cost_no_run_of_the_network(tmp_path, host_name, monkeypatch):
    backend = load_backend(write_toy_model(tmp_path / "m.onnx"), backend=host_name)
    monkeypatch.setattr(backend.runtime, "_run", None)

    keypoints = backend.keypoints(smooth_image(), Regions.around(np.zeros((0, 4)), backend.spec))

    assert keypoints.shape == (0, 2, 3)


def test_the_flip_test_runs_all_crops_and_their_mirror_images_in_one_batch(tmp_path, host_name, monkeypatch):
    backend = load_backend(write_toy_model(tmp_path / "m.onnx"), backend=host_name)
    batches = []
    run = backend.runtime._run
    monkeypatch.setattr(backend.runtime, "_run", lambda arrays: batches.append(arrays["crops"]) or run(arrays))

    backend.keypoints(smooth_image(), Regions.around(WHOLE.repeat(3, axis=0), backend.spec), flip_test=True)

    (batch,) = batches
    assert len(batch) == 6
    np.testing.assert_array_equal(batch[3:], batch[:3, :, :, ::-1])


def test_a_crowd_in_parts_is_the_same_as_at_once(tmp_path, host_name, monkeypatch):
    backend = load_backend(write_toy_model(tmp_path / "m.onnx"), backend=host_name)
    boxes = np.array([[i, 2 * i, 60 + i, 70 + i] for i in range(7)], np.float32)
    regions = Regions.around(boxes, backend.spec)
    at_once = backend.keypoints(smooth_image(), regions, flip_test=True)
    monkeypatch.setattr(host, "MAX_PEOPLE", 2)

    with measured() as times:
        in_parts = backend.keypoints(smooth_image(), regions, flip_test=True)

    np.testing.assert_array_equal(in_parts, at_once)
    assert set(times.seconds) == {"crop", "network", "decode"}


def test_the_same_crops_give_the_same_numbers_in_two_instances(tmp_path, name):
    path = write_model(name, tmp_path)
    one, other = load_backend(path, backend=name, threads=1), load_backend(path, backend=name, threads=1)
    crops = random_crops(2)

    first, second = one.heatmaps(crops), other.heatmaps(crops)

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, one.heatmaps(crops))


def test_both_backends_agree(tmp_path):
    path = write_toy_model(tmp_path / "m.onnx")
    regions = Regions.around(WHOLE, dots_spec())

    found = [load_backend(path, backend=name).keypoints(smooth_image(64, 48), regions) for name in BACKENDS]

    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize(
    "crops", [np.zeros((1, 3, 48, 64), np.float32), np.zeros((1, 3, 64, 48)), np.zeros((3, 64, 48))]
)
def test_crops_of_another_shape_or_type_are_the_callers_mistake(tmp_path, name, crops):
    backend = load_backend(write_model(name, tmp_path), backend=name)

    with pytest.raises(ValueError, match="crops must be"):
        backend.heatmaps(crops)


def test_a_closed_backend_says_so(tmp_path, name):
    backend = load_backend(write_model(name, tmp_path), backend=name)
    backend.close()
    backend.close()

    with pytest.raises(ValueError, match="closed"):
        backend.heatmaps(random_crops(1))


def test_a_graph_of_other_shapes_than_its_passport_is_refused(tmp_path, name):
    path = write_model(name, tmp_path)
    write_passport(path, replace(read_passport(path), spec=make_spec(input_hw=(96, 64))))

    with pytest.raises(ModelFileError, match="3, 64, 48, its passport says N, 3, 96, 64"):
        load_backend(path, backend=name)


@pytest.mark.parametrize("damage", ["empty", "text", "random", "truncated"])
def test_a_damaged_onnx_is_one_line_even_if_its_passport_fits(tmp_path, capfd, host_name, damage):
    path = write_toy_model(tmp_path / "m.onnx")
    data = {
        "empty": b"",
        "text": b"this is no model\n" * 20,
        "random": np.random.default_rng(0).bytes(3000),
        "truncated": path.read_bytes()[:200],
    }[damage]
    path.write_bytes(data)
    write_passport(path, Passport(dots_spec(), "fp32", sha256_of(path), "toy"))

    with pytest.raises(ModelFileError) as error:
        load_backend(path, backend=host_name)

    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_passport_of_another_file_is_refused(tmp_path):
    path = write_toy_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(ModelFileError, match="belongs to another file"):
        load_backend(path)


def test_a_backend_of_the_other_kind_of_file_says_what_to_do(tmp_path):
    with pytest.raises(BackendError, match="give the ONNX"):
        load_backend(tmp_path / "m.plan", backend="openvino")
    with pytest.raises(BackendError, match=r"edgepose build .*m.onnx"):
        load_backend(tmp_path / "m.onnx", backend="tensorrt")


@pytest.mark.parametrize("arguments", [{"backend": "tensorflow"}, {"threads": 0}])
def test_unknown_backends_and_no_threads_are_the_callers_mistake(tmp_path, arguments):
    with pytest.raises(ValueError, match="must be"):
        load_backend(tmp_path / "m.onnx", **arguments)


@pytest.fixture
def without_openvino(monkeypatch):
    for name in ("edgepose.backends.openvino", "edgepose.backends.openvino_graph"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)


def test_without_openvino_an_fp32_file_runs_in_onnxruntime(tmp_path, without_openvino):
    assert load_backend(write_toy_model(tmp_path / "m.onnx")).name == "onnxruntime"


@pytest.mark.parametrize(("precision", "backend"), [("fp16", None), ("int8", None), ("fp32", "openvino")])
def test_without_openvino_what_needs_it_names_the_extra(tmp_path, without_openvino, precision, backend):
    path = write_toy_model(tmp_path / "m.onnx", precision=precision)

    with pytest.raises(MissingPackageError, match=r"OpenVINO is not installed.*edgepose\[cpu\]"):
        load_backend(path, backend=backend)


@pytest.mark.parametrize(("package", "backend"), [("openvino", None), ("onnxruntime", "onnxruntime")])
def test_a_package_that_does_not_load_is_not_called_absent(tmp_path, monkeypatch, package, backend):
    path = write_toy_model(tmp_path / "m.onnx")
    (tmp_path / f"{package}.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    backends = [f"edgepose.backends.{name}" for name in ("openvino", "openvino_graph", "ort")]
    for name in (package, *backends):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BackendError, match=rf"{package} is installed but does not load \(ImportError: libtbb"):
        load_backend(path, backend=backend)


def test_openvino_is_imported_without_its_telemetry():
    code = "import sys, edgepose.backends.openvino; print('openvino_telemetry' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert answer.strip() == "False"
