"""ONNX to TensorRT plan, on the device that will run it, or for named targets with TensorRT for RTX.

The network is strongly typed: precision is what the ONNX says (FP16 tensors, Q/DQ pairs), so there is no
precision flag here and the same file means the same numbers on every TensorRT.
"""

from __future__ import annotations

import resource
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgepose.cuda.nvcc import Compiled, compile_kernels, kernels_path
from edgepose.errors import BuildError, EdgeposeError, ModelFileError
from edgepose.files import whole_file, write_json
from edgepose.machine.gpu import Gpu, find_gpu
from edgepose.machine.nvcc import find_nvcc, nvcc_cuda
from edgepose.model.computes import LEAST_SHARE, Computes
from edgepose.model.engine_info import EngineInfo, KernelsFile
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.passport import Passport, passport_path, read_passport
from edgepose.trt.layers import computes_of, engine_information, parse_layers, parse_log
from edgepose.trt.log import Messages, messages_of
from edgepose.trt.meant import Meant
from edgepose.trt.options import BuildOptions
from edgepose.trt.plan import runtime_cache_path
from edgepose.trt.serialise import Progress, build_plan
from edgepose.trt.versions import load_builder

_HIDDEN_GPU = (
    "if this is the Jetson: a container without --runtime nvidia, or a user outside the group video: edgepose doctor"
)


@dataclass(frozen=True)
class BuildReport:
    """What a build made.

    Attributes:
        plan: the engine file.
        passport: its passport, already written beside it.
        warnings: of TensorRT and nvcc, in order, each once.
        peak_mib: most host memory this process has held, MiB; what the driver holds for the GPU is not in it.
    """

    plan: Path
    passport: Passport
    warnings: tuple[str, ...]
    peak_mib: int

    @property
    def takes_kernels(self) -> bool:
        """Whether infer runs the plan with CUDA kernels beside it."""
        return _kernels_of(self.passport) is not None


def build_engine(
    onnx_path: Path,
    plan_path: Path | None = None,
    options: BuildOptions | None = None,
    *,
    runtime: str | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build a plan from a passported ONNX, and write it with its CUDA kernels and passport: all whole, or none.

    Args:
        onnx_path: m.onnx, m.fp16.onnx or m.int8.onnx, its passport beside it.
        plan_path: where to; by default the ONNX's name with .plan. The kernels go to `kernels_path` of it.
        options: see BuildOptions.
        runtime: "tensorrt" or "tensorrt_rtx"; None takes the first that is installed.
        progress: called with phase, steps done and steps in all, where this TensorRT reports them.

    Raises:
        ModelFileError: the ONNX or its passport is missing or damaged.
        BuildError: TensorRT or nvcc refused; carries its last error lines. Or nvcc is newer than this GPU's driver.
        BackendError: the CUDA driver of this machine fails.
        OSError: a file cannot be written; said before the build begins.
        KeyboardInterrupt: the build was interrupted; TensorRT stops at its next step. So it does if `progress` raises.
    """
    options = options or BuildOptions()
    onnx_path = Path(onnx_path)
    source = read_passport(onnx_path)
    plan_path = Path(plan_path) if plan_path else onnx_path.with_suffix(".plan")
    for suffix, kind in ((".onnx", "an ONNX"), (".json", "a passport")):
        if plan_path.suffix == suffix:
            raise BuildError(f"{plan_path} is the name of {kind}, not of a plan: name another, m.plan say")
    if source.engine is not None:
        raise ModelFileError(f"{onnx_path} is an engine already: build from the ONNX it was made from")
    trt = load_builder(runtime)
    gpu = None if options.targets else find_gpu()
    _check_target(trt, options, gpu, source.precision)
    targets = options.targets or ((gpu.target,) if gpu else ())
    with ExitStack() as files:  # opened first: a full or read-only disk is said before the minutes of a build
        passport_file = files.enter_context(whole_file(passport_path(plan_path)))
        plan_file = files.enter_context(whole_file(plan_path))
        cache_file = files.enter_context(whole_file(options.timing_cache)) if options.timing_cache else None
        kernels, kernel_source = None, _kernels_of(source)
        if options.kernels and kernel_source:  # before the plan, whose build takes minutes
            if gpu is not None:
                _check_nvcc(gpu)
            kernels = compile_kernels(targets, kernel_source)
            files.enter_context(whole_file(kernels_path(plan_path))).write_bytes(kernels.fatbin)
        log = files.enter_context(messages_of(trt))
        plan, meant = build_plan(trt, log, onnx_path, options, cache_file, progress)
        plan_file.write_bytes(plan)
        passport = Passport(
            spec=source.spec,
            precision=source.precision,
            sha256=sha256(plan).hexdigest(),
            weights=source.weights,
            weights_sha256=source.weights_sha256,
            made_from={onnx_path.name: source.sha256},
            versions={**source.versions, trt.__name__: trt.__version__},
            engine=EngineInfo(
                runtime=trt.__name__,
                tensorrt=trt.__version__,
                gpu=gpu.name if gpu else "",
                targets=tuple(targets),
                max_batch=options.max_batch,
                version_compatible=options.version_compatible,
                dla=options.dla,
                kernels=_kernels_file(kernels, plan_path),
                multiprocessors=gpu.multiprocessors if gpu else None,
                memory_mib=gpu.memory_mib if gpu else None,
            ),
        )
        computes = _computes(trt, plan, plan_path, passport, log, meant)
        passport = replace(passport, engine=replace(passport.plan, computes=computes))
        write_json(passport_file, passport.to_json())
    if kernels is None:
        kernels_path(plan_path).unlink(missing_ok=True)  # of an earlier build
    runtime_cache_path(plan_path).unlink(missing_ok=True)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warnings = dict.fromkeys([*log.warnings, *(kernels.warnings if kernels else ())])
    return BuildReport(plan_path, passport, tuple(warnings), peak_kib // 1024)


def _computes(
    trt: Any, plan: bytes, plan_path: Path, passport: Passport, log: Messages, meant: Meant
) -> Computes | None:
    """What the plan's layers compute in: from TensorRT's inspector, which wants a GPU, else from its build log."""
    try:
        if passport.plan.gpu:
            computes = computes_of(parse_layers(engine_information(trt, plan_path, passport, plan)), meant)
        else:
            computes = computes_of(parse_log(log.layers), meant)
    except EdgeposeError as error:  # the plan is good without
        log.warnings.append(f"which precisions the plan computes in is not known: {error}")
        return None
    if not computes.kept:
        wanted = ", ".join(f"{share:.0%} of {name}" for name, share in computes.meant.items())
        log.warnings.append(
            f"TensorRT did not keep the ONNX's precision ({wanted} kept, {LEAST_SHARE:.0%} wanted): {computes.text()}"
        )
    return computes if computes.shares else None


def _kernels_of(passport: Passport) -> str | None:
    """The source of the kernels that infer runs around a plan; None if it runs none."""
    head = passport.spec.head
    if isinstance(head, (Heatmaps, HeatmapsWithOffsets)):
        return "pose.cu"
    if isinstance(head, (Fields, Tags)):
        return "bottom_up.cu"
    if isinstance(head, SimCC):
        return "simcc.cu" if head.depth_bins else "vectors.cu"
    return "volume.cu" if isinstance(head, Volume) else None


def _kernels_file(kernels: Compiled | None, plan_path: Path) -> KernelsFile | None:
    if kernels is None:
        return None
    return KernelsFile(kernels_path(plan_path).name, sha256(kernels.fatbin).hexdigest())


def _check_target(trt: Any, options: BuildOptions, gpu: Gpu | None, precision: str) -> None:
    if trt.__name__ == "tensorrt":
        if options.targets:
            raise BuildError("TensorRT builds for the GPU of this machine; --target needs --runtime tensorrt_rtx")
        if gpu is None:
            raise BuildError(
                "no NVIDIA GPU or driver was found, and TensorRT builds on the device that runs the engine: "
                f"run edgepose build on the Jetson, or name a --target with --runtime tensorrt_rtx; {_HIDDEN_GPU}"
            )
        if options.dla is not None and options.optimal_batch not in (None, options.max_batch):
            raise BuildError("a DLA runs max-batch crops each time: leave out --optimal-batch")
        if options.dla is not None and precision == "fp32":
            raise BuildError("a DLA computes in FP16 and INT8 only: build it from the .fp16.onnx")
        return
    for given, option, why in (
        (options.dla is not None, "--dla", "has no DLA"),
        (options.timing_cache is not None, "--timing-cache", "times no kernels when it builds"),
        (options.version_compatible, "--version-compatible", "has no such plans"),
    ):
        if given:
            raise BuildError(f"TensorRT for RTX {why}: leave out {option}, or build with TensorRT on the Jetson")
    names = (name for name in dir(trt.ComputeCapability) if name.startswith("SM"))
    known = sorted(names, key=lambda name: int(name.removeprefix("SM")))
    for target in options.targets:
        if target.upper().replace("_", "") not in known:
            raise BuildError(
                f"unknown target {target}; {trt.__name__} {trt.__version__} builds for "
                f"{', '.join(name.lower().replace('sm', 'sm_') for name in known)}; "
                f"a Jetson's plan is built on the Jetson, without --target"
            )
    if not options.targets and gpu is None:
        raise BuildError(
            f"no NVIDIA GPU or driver was found: name what to build for, --target sm_86 say; {_HIDDEN_GPU}"
        )


def _check_nvcc(gpu: Gpu) -> None:
    """A driver runs what was compiled with its own CUDA major version or an older one (NVIDIA, CUDA Compatibility)."""
    compiler, driver = nvcc_cuda(nvcc := find_nvcc()), gpu.driver_cuda[0]
    if compiler is not None and compiler[0] > driver:
        raise BuildError(
            f"nvcc is of CUDA {compiler[0]}.{compiler[1]} ({nvcc}), this driver runs CUDA {driver}.x and older: put an "
            f"nvcc of CUDA {driver} first on PATH (on a Jetson JetPack's, in /usr/local/cuda/bin), or update the driver"
        )
