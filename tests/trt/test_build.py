"""NVIDIA's own parser and builder take what edgepose writes; no GPU needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from edgepose.cli import main
from edgepose.cli.build_command import command as build_command
from edgepose.cuda.nvcc import Compiled, kernels_path, read_kernels
from edgepose.errors import BuildError, EngineMismatchError, ModelFileError
from edgepose.files import sha256_of
from edgepose.machine.gpu import Gpu
from edgepose.model.engine_info import LARGEST_COUNT, KernelsFile
from edgepose.model.passport import Passport, read_passport, write_passport
from edgepose.trt.build import build_engine
from edgepose.trt.log import logger_of
from edgepose.trt.options import LARGEST_WORKSPACE_MIB, BuildOptions, parse_targets
from edgepose.trt.serialise import _batches, _configure, _read_timing_cache
from edgepose.trt.versions import load_builder, version_of
from tests.makers import make_spec
from tests.nvcc import needs_nvcc

onnx = pytest.importorskip("onnx")
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")
from onnx import TensorProto, helper  # noqa: E402

PLAIN = BuildOptions(targets=("sm_86",), kernels=False)


def write_network(path: Path, operator: str = "Conv", batch: int | str = "n", layers: int = 1) -> Path:
    """A passported ONNX: crops (n, 3, 64, 48) to heatmaps (n, 2, 16, 12)."""
    nodes, name = [], "crops"
    for layer in range(layers):
        last = layer == layers - 1
        nodes.append(
            helper.make_node(
                operator,
                [name, "weight" if layer == 0 else "inner"],
                ["heatmaps" if last else f"x{layer}"],
                name=f"layer{layer}",
                strides=[4, 4] if layer == 0 else [1, 1],
                kernel_shape=[4, 4] if layer == 0 else [1, 1],
            )
        )
        name = f"x{layer}"
    weights = [helper.make_tensor("weight", TensorProto.FLOAT, [2, 3, 4, 4], [0.1] * 96)]
    if layers > 1:
        weights.append(helper.make_tensor("inner", TensorProto.FLOAT, [2, 2, 1, 1], [0.1] * 4))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, [batch, 3, 64, 48])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, 2, 16, 12])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    write_passport(path, Passport(make_spec(), "fp32", sha256_of(path), "random"))
    return path


def test_a_plan_and_its_passport_are_written_for_the_named_targets(tmp_path):
    model = write_network(tmp_path / "m.onnx")

    options = BuildOptions(max_batch=4, targets=("sm_86", "sm_89"), kernels=False)
    report = build_engine(model, options=options, runtime="tensorrt_rtx")

    assert report.plan == tmp_path / "m.plan"
    passport = read_passport(report.plan)
    assert passport.spec == make_spec()
    assert passport.made_from == {"m.onnx": sha256_of(model)}
    assert passport.engine is not None
    assert passport.engine.targets == ("sm_86", "sm_89")
    assert passport.engine.max_batch == 4
    assert passport.engine.tensorrt == trt.__version__
    assert report.peak_mib > 0


def test_a_fixed_batch_needs_that_max_batch(tmp_path):
    model = write_network(tmp_path / "m.onnx", batch=1)

    with pytest.raises(BuildError, match="--max-batch 1"):
        build_engine(model, options=PLAIN, runtime="tensorrt_rtx")

    assert build_engine(model, options=replace(PLAIN, max_batch=1), runtime="tensorrt_rtx").plan.is_file()


def test_a_fixed_batch_is_not_tuned_for_another(tmp_path):
    model = write_network(tmp_path / "m.onnx", batch=4)

    with pytest.raises(BuildError, match="--max-batch 4, without --optimal-batch"):
        build_engine(model, options=replace(PLAIN, max_batch=4, optimal_batch=2), runtime="tensorrt_rtx")


def test_a_layer_tensorrt_cannot_take_is_named_and_nothing_is_left(tmp_path):
    model = write_network(tmp_path / "m.onnx", operator="NoSuchOperator")

    with pytest.raises(BuildError, match=r"layer layer0 \(NoSuchOperator\)"):
        build_engine(model, options=PLAIN, runtime="tensorrt_rtx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_truncated_onnx_is_a_build_error_even_when_its_passport_matches(tmp_path):
    model = write_network(tmp_path / "m.onnx")
    model.write_bytes(model.read_bytes()[:-200])
    write_passport(model, Passport(make_spec(), "fp32", sha256_of(model), "random"))

    with pytest.raises(BuildError, match="refused"):
        build_engine(model, options=PLAIN, runtime="tensorrt_rtx")


def test_an_engine_is_not_built_from_an_engine(tmp_path):
    report = build_engine(write_network(tmp_path / "m.onnx"), options=PLAIN, runtime="tensorrt_rtx")

    with pytest.raises(ModelFileError, match="already"):
        build_engine(report.plan, tmp_path / "again.plan", PLAIN, runtime="tensorrt_rtx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "sm_12"], "sm_86, sm_89, sm_120, sm_121"),
        (["--target", "sm_87"], "a Jetson's plan is built on the Jetson, without --target"),
        (["--target", "sm_86", "--dla", "0"], "no DLA"),
        (["--target", "sm_86", "--timing-cache", "t.cache"], "leave out --timing-cache"),
        (["--target", "sm_86", "--version-compatible"], "leave out --version-compatible"),
        (["--target", "sm_86", "--no-kernels", "--workspace", "1"], "more with --workspace"),
        (["--target", "sm_86", "--no-kernels", "-o", "m.onnx.json"], "m.onnx.json is the name of a passport"),
        (["--runtime", "tensorrt", "--target", "sm_86"], "tensorrt is not installed"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, arguments, message):
    model = write_network(tmp_path / "m.onnx")

    result = CliRunner().invoke(main, ["build", str(model), *arguments])

    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


ORIN = Gpu("Orin", (8, 7), 8, integrated=True, driver_cuda=(12, 6))


@pytest.mark.parametrize(
    ("gpu", "options", "message"),
    [
        (
            None,
            BuildOptions(),
            "no NVIDIA GPU or driver was found, and TensorRT builds on .*group video: edgepose doctor",
        ),
        (ORIN, BuildOptions(targets=("sm_86",)), "--target needs --runtime tensorrt_rtx"),
        (ORIN, BuildOptions(dla=0), r"FP16 and INT8 only: build it from the \.fp16\.onnx"),
        (ORIN, BuildOptions(dla=0, optimal_batch=4), "a DLA runs max-batch crops each time: leave out --optimal-batch"),
    ],
)
def test_what_tensorrt_itself_cannot_build_is_said_first(tmp_path, monkeypatch, gpu, options, message):
    model = write_network(tmp_path / "m.onnx")
    monkeypatch.setattr("edgepose.trt.build.load_builder", lambda _: SimpleNamespace(__name__="tensorrt"))
    monkeypatch.setattr("edgepose.trt.build.find_gpu", lambda: gpu)

    with pytest.raises(BuildError, match=message):
        build_engine(model, options=options)


def test_the_command_says_what_it_wrote(tmp_path):
    model = write_network(tmp_path / "m.onnx")

    result = CliRunner().invoke(
        main, ["build", str(model), "-o", str(tmp_path / "x.plan"), "--target", "86", "--no-kernels"]
    )

    assert result.exit_code == 0, result.output
    assert "x.plan" in result.stdout
    assert "without its CUDA kernels" in result.stdout
    assert "sm_86" in result.stdout
    assert "random" in result.stderr


@needs_nvcc
def test_the_kernels_of_all_targets_lie_beside_the_plan_and_their_hash_in_its_passport(tmp_path):
    model = write_network(tmp_path / "m.onnx")

    report = build_engine(model, options=BuildOptions(targets=("sm_86", "sm_89")), runtime="tensorrt_rtx")

    assert sorted(path.name for path in tmp_path.glob("m.plan*")) == ["m.plan", "m.plan.fatbin", "m.plan.json"]
    passport = read_passport(report.plan)
    assert passport.engine is not None
    assert passport.engine.kernels == KernelsFile("m.plan.fatbin", sha256_of(tmp_path / "m.plan.fatbin"))
    assert read_kernels(report.plan, passport) == (tmp_path / "m.plan.fatbin").read_bytes()
    assert report.warnings == ()


def test_a_plan_with_kernels_missing_or_of_another_build_says_how_to_mend_it(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    monkeypatch.setattr(
        "edgepose.trt.build.compile_kernels", lambda *_: Compiled(b"a module", (), ("a warning of nvcc",))
    )
    report = build_engine(model, options=replace(PLAIN, kernels=True), runtime="tensorrt_rtx")
    kernels = kernels_path(report.plan)

    assert report.warnings == ("a warning of nvcc",)
    kernels.write_bytes(kernels.read_bytes()[:-1])
    with pytest.raises(EngineMismatchError, match=r"m\.plan\.fatbin is not what was compiled .* edgepose build"):
        read_kernels(report.plan, report.passport)
    kernels.unlink()
    with pytest.raises(
        EngineMismatchError, match=r"No such file.*copy m\.plan, m\.plan\.fatbin and m\.plan\.json together"
    ):
        read_kernels(report.plan, report.passport)


def test_a_plan_without_kernels_is_another_programs_and_takes_an_earlier_builds_away(tmp_path):
    model = write_network(tmp_path / "m.onnx")
    kernels_path(tmp_path / "m.plan").write_bytes(b"of an earlier build")

    report = build_engine(model, options=PLAIN, runtime="tensorrt_rtx")

    assert not kernels_path(report.plan).exists()
    with pytest.raises(EngineMismatchError, match="--no-kernels"):
        read_kernels(report.plan, report.passport)


def test_a_missing_nvcc_is_said_before_tensorrt_is_asked_for_anything(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr("edgepose.trt.build.build_plan", lambda *_: pytest.fail("the build has begun"))

    with pytest.raises(BuildError, match=r"nvcc.* apt install nvidia-cuda-dev on a Jetson, cuda-toolkit elsewhere"):
        build_engine(model, options=BuildOptions(targets=("sm_86",)), runtime="tensorrt_rtx")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_a_failed_build_leaves_the_engine_that_was_there(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    report = build_engine(model, options=PLAIN, runtime="tensorrt_rtx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("edgepose.trt.build.write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))

    with pytest.raises(OSError, match="disk full"):
        build_engine(model, options=replace(PLAIN, max_batch=2), runtime="tensorrt_rtx")

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert read_passport(report.plan) == report.passport


def test_a_folder_or_an_onnx_is_no_name_for_a_plan(tmp_path):
    model = write_network(tmp_path / "m.onnx")

    with pytest.raises(IsADirectoryError):
        build_engine(model, tmp_path, PLAIN, runtime="tensorrt_rtx")
    with pytest.raises(BuildError, match="name of an ONNX"):
        build_engine(model, model, PLAIN, runtime="tensorrt_rtx")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupted_build_leaves_no_file(tmp_path):
    model = write_network(tmp_path / "m.onnx", layers=3)
    program = (
        "import os, signal, sys\n"
        "from edgepose.trt.build import *\n"
        "def press(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "try:\n"
        "    options = BuildOptions(targets=('sm_86',), kernels=False)\n"
        f"    build_engine({str(model)!r}, options=options, runtime='tensorrt_rtx', progress=press)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env={**os.environ})

    assert done.returncode == 130, done.stderr.decode()
    assert not (tmp_path / "m.plan").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_the_progress_report_raises_ends_the_build(tmp_path):
    model = write_network(tmp_path / "m.onnx")

    def fail(*_):
        raise BrokenPipeError("the terminal has gone")

    with pytest.raises(BrokenPipeError):
        build_engine(model, options=PLAIN, runtime="tensorrt_rtx", progress=fail)

    assert not (tmp_path / "m.plan").exists()


def test_building_in_a_thread_works(tmp_path):
    model = write_network(tmp_path / "m.onnx")
    reports = []

    thread = threading.Thread(target=lambda: reports.append(build_engine(model, options=PLAIN, runtime="tensorrt_rtx")))
    thread.start()
    thread.join()

    assert reports[0].plan.is_file()


def test_errors_reach_the_build_that_failed_whatever_else_holds_tensorrt(tmp_path):
    model = write_network(tmp_path / "m.onnx")
    held = trt.Runtime(logger_of(trt))  # TensorRT takes no other logger while this lives

    with pytest.raises(BuildError, match="workspace limit"):
        build_engine(model, options=replace(PLAIN, workspace_mib=1), runtime="tensorrt_rtx")
    assert build_engine(model, options=PLAIN, runtime="tensorrt_rtx").warnings == ()
    assert logger_of(trt).listeners == []
    del held


class Config:
    """As much of a builder config as holds a timing cache."""

    def __init__(self, readable: bytes = b"", accepted: bool = True) -> None:
        self.readable, self.accepted = readable, accepted

    def create_timing_cache(self, data: bytes) -> Config:
        return Config(data if data == self.readable else b"empty")

    def serialize(self) -> bytes:
        return self.readable

    def set_timing_cache(self, cache: Config, ignore_mismatch: bool) -> bool:
        return self.accepted and not ignore_mismatch


def test_a_timing_cache_is_read_if_it_is_one_of_this_machine(tmp_path):
    cache = tmp_path / "t.cache"
    _read_timing_cache(Config(), cache)  # not there yet
    cache.write_bytes(b"timings")

    _read_timing_cache(Config(b"timings"), cache)
    for config in (Config(b"other timings"), Config(b"timings", accepted=False)):
        with pytest.raises(BuildError, match=r"t\.cache is no timing cache, or that of another"):
            _read_timing_cache(config, cache)


def test_a_timing_cache_that_cannot_be_written_is_said_before_the_build(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    monkeypatch.setattr("edgepose.trt.build.load_builder", lambda _: SimpleNamespace(__name__="tensorrt"))
    monkeypatch.setattr("edgepose.trt.build.find_gpu", lambda: ORIN)
    monkeypatch.setattr("edgepose.trt.build.build_plan", lambda *_: pytest.fail("the build has begun"))

    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        build_engine(model, options=BuildOptions(kernels=False, timing_cache=tmp_path))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorRT for RTX keeps the calls, which do nothing there
def test_a_timing_cache_is_written_back_and_read_again(tmp_path, monkeypatch):
    model, cache = write_network(tmp_path / "m.onnx"), tmp_path / "t.cache"
    monkeypatch.setattr("edgepose.trt.build._check_target", lambda *_: None)  # which refuses it for TensorRT for RTX
    options = replace(PLAIN, timing_cache=cache)

    build_engine(model, options=options, runtime="tensorrt_rtx")
    first = cache.read_bytes()
    build_engine(model, options=options, runtime="tensorrt_rtx")

    assert first
    assert cache.read_bytes() == first


def test_an_empty_timing_cache_is_one_too(tmp_path):
    cache = tmp_path / "t.cache"
    cache.write_bytes(b"empty")

    _read_timing_cache(Config(b"timings"), cache)


def test_versions_are_compared_as_numbers():
    class Old:  # what a module shows of its version
        __version__ = "9.12.0.post1"

    assert version_of(Old) == (9, 12, 0)
    assert version_of(Old) < (10, 3)  # "9" > "10" as strings


def test_an_absent_tensorrt_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(BuildError, match="python3-libnvinfer"):
        load_builder("tensorrt")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open')", r"\(ImportError: libnvinfer\.so\.10: cannot open\)"),
        ("raise OSError('libnvinfer.so.10: wrong ELF class')", r"\(OSError: libnvinfer\.so\.10: wrong ELF class\)"),
        ("import tensorrt_bindings_absent", r"\(ModuleNotFoundError: No module named .tensorrt_bindings_absent.\)"),
    ],
)
def test_a_tensorrt_that_does_not_load_is_not_called_absent(tmp_path, monkeypatch, failure, told):
    (tmp_path / "tensorrt.py").write_text(failure)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BuildError, match=rf"tensorrt is installed but does not load {told}.*: see edgepose doctor"):
        load_builder()


def test_a_tensorrt_too_old_names_the_jetpack_that_has_a_newer(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__name__="tensorrt", __version__="8.6.2"))

    with pytest.raises(BuildError, match=r"TensorRT 8\.6\.2 found, .* install JetPack 6\.1 or newer"):
        load_builder()


def test_an_nvcc_newer_than_the_driver_is_said_before_the_build(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(nvcc.parent), prepend=os.pathsep)
    monkeypatch.setattr("edgepose.trt.build.find_gpu", lambda: ORIN)
    monkeypatch.setattr("edgepose.trt.build.compile_kernels", lambda *_: pytest.fail("the build has begun"))

    with pytest.raises(BuildError, match=r"nvcc is of CUDA 13\.0 .*this driver runs CUDA 12\.x and older"):
        build_engine(model, runtime="tensorrt_rtx")


def test_a_broken_driver_does_not_matter_to_a_build_for_other_machines(tmp_path, monkeypatch):
    model = write_network(tmp_path / "m.onnx")
    monkeypatch.setattr("edgepose.trt.build.find_gpu", lambda: pytest.fail("the driver was asked"))

    assert build_engine(model, options=PLAIN, runtime="tensorrt_rtx").passport.engine.gpu == ""


def test_a_dla_that_is_not_there_is_to_be_left_out():
    builder, config = SimpleNamespace(num_DLA_cores=0), SimpleNamespace()
    network = SimpleNamespace(num_inputs=1, get_input=lambda _: SimpleNamespace(shape=(1, 3, 32, 32)))
    options = BuildOptions(max_batch=1, dla=0)

    with pytest.raises(BuildError, match="has 0 DLA cores: leave out --dla"):
        _configure(SimpleNamespace(ProfilingVerbosity=SimpleNamespace(DETAILED=1)), builder, network, config, options)


def test_targets_may_be_written_short():
    assert parse_targets(["86", "sm89", "sm_86", "SM_86"]) == ("sm_86", "sm_89")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_batch": 0},
        {"max_batch": LARGEST_COUNT + 1},
        {"optimal_batch": 9},
        {"workspace_mib": 0},
        {"workspace_mib": LARGEST_WORKSPACE_MIB + 1},
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        BuildOptions(**wrong)


def test_the_command_refuses_the_same_numbers():
    ranges = {option.name: option.type for option in build_command.params}

    assert (ranges["max_batch"].min, ranges["max_batch"].max) == (1, LARGEST_COUNT)
    assert (ranges["workspace"].min, ranges["workspace"].max) == (1, LARGEST_WORKSPACE_MIB)


def test_a_folder_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelFileError, match="a folder, a model file was wanted"):
        build_engine(Path("."))


def test_the_passport_is_json_a_person_can_read(tmp_path):
    report = build_engine(write_network(tmp_path / "m.onnx"), options=PLAIN, runtime="tensorrt_rtx")

    data = json.loads((tmp_path / "m.plan.json").read_text())

    assert data["engine"]["runtime"] == "tensorrt_rtx"
    assert data["sha256"] == sha256_of(report.plan)


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        (BuildOptions(max_batch=8), [(1, 8, 8), (1, 1, 1)]),  # one alone has tactics of its own
        (BuildOptions(max_batch=1), [(1, 1, 1)]),
        (BuildOptions(max_batch=8, optimal_batch=2), [(1, 2, 8)]),
        (BuildOptions(max_batch=8, dla=0), [(8, 8, 8)]),
    ],
)
def test_a_plan_is_tuned_for_one_and_for_many(options, batches):
    assert _batches(options) == batches
