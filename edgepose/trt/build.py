"""ONNX to TensorRT plan, on the device that will run it, or for named targets with TensorRT for RTX.

The network is strongly typed: precision is what the ONNX says (FP16 tensors, Q/DQ pairs), so there is no
precision flag here and the same file means the same numbers on every TensorRT. This is the one file that
knows how TensorRT 10.3 to 11.4 and TensorRT for RTX differ.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from edgepose.model.engine_info import LARGEST_COUNT, EngineInfo, KernelsFile
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.passport import Passport, passport_path, read_passport
from edgepose.trt.interleaving import MOVED, move_pairs
from edgepose.trt.layers import computes_of, engine_information, parse_layers, parse_log
from edgepose.trt.log import Messages, logger_of, messages_of
from edgepose.trt.meant import Meant, meant_of
from edgepose.trt.plan import runtime_cache_path
from edgepose.trt.versions import load_builder

LARGEST_WORKSPACE_MIB = 1 << 20  # more than any GPU has; TensorRT counts bytes in 64 bits

_HIDDEN_GPU = (
    "if this is the Jetson: a container without --runtime nvidia, or a user outside the group video: edgepose doctor"
)

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes:
        max_batch: most crops in one run of the network.
        optimal_batch: the batch to tune for; None tunes twice, for one and for max_batch.
        workspace_mib: scratch memory TensorRT may use; None leaves it to TensorRT.
        timing_cache: file of measured kernel timings, read if it is there and written back.
        version_compatible: the plan also runs with later TensorRT releases of the same major version.
        dla: core of the deep learning accelerator to use, layers it cannot take go to the GPU; None for the GPU. It
            knows no varying batch: each run of the network is then of max_batch crops.
        targets: TensorRT for RTX only: architectures to build for, ("sm_86",); empty for this machine's GPU.
        kernels: compile the CUDA kernels beside the plan, if its network is one for crops of people; without them such
            a plan is for other programs only.
    """

    max_batch: int = 8
    optimal_batch: int | None = None
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    dla: int | None = None
    targets: tuple[str, ...] = ()
    kernels: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= LARGEST_COUNT:
            raise ValueError(f"max_batch must be 1 to {LARGEST_COUNT}, got {self.max_batch}")
        if self.optimal_batch is not None and not 1 <= self.optimal_batch <= self.max_batch:
            raise ValueError(f"optimal_batch must be 1 to {self.max_batch} (max_batch), got {self.optimal_batch}")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= LARGEST_WORKSPACE_MIB:
            raise ValueError(f"workspace_mib must be 1 to {LARGEST_WORKSPACE_MIB}, got {self.workspace_mib}")


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
        return _takes_kernels(self.passport)


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
        kernels = None
        if options.kernels and _takes_kernels(source):  # before the plan, whose build takes minutes
            if gpu is not None:
                _check_nvcc(gpu)
            kernels = compile_kernels(targets, "pose.cu")
            files.enter_context(whole_file(kernels_path(plan_path))).write_bytes(kernels.fatbin)
        log = files.enter_context(messages_of(trt))
        plan, meant = _build_plan(trt, log, onnx_path, options, cache_file, progress)
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


def _takes_kernels(passport: Passport) -> bool:
    return isinstance(passport.spec.head, (Heatmaps, HeatmapsWithOffsets))


def _kernels_file(kernels: Compiled | None, plan_path: Path) -> KernelsFile | None:
    if kernels is None:
        return None
    return KernelsFile(kernels_path(plan_path).name, sha256(kernels.fatbin).hexdigest())


def _build_plan(
    trt: Any, log: Messages, onnx_path: Path, options: BuildOptions, cache_file: Path | None, progress: Progress | None
) -> tuple[bytes, Meant]:
    """The plan, and what the network that it is of was meant to compute in."""
    with _explained(log, onnx_path):
        builder = trt.Builder(logger_of(trt))
        for moved in (False, True):
            network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            _parse(trt, network, log, onnx_path)
            if moved and (log.out_of_memory() or not move_pairs(trt, network)):
                break
            meant = meant_of(trt, network)
            config = builder.create_builder_config()
            _configure(trt, builder, network, config, options)
            with _interruptible(trt, config, progress) as interruption:
                plan = builder.build_serialized_network(network, config)
            if interruption.reason is not None:
                raise interruption.reason
            if plan is not None:
                log.warnings += [MOVED] * moved
                break
        if plan is None:
            raise BuildError(f"TensorRT could not build {onnx_path}: {log.last_errors()}")
    if cache_file is not None:
        cache_file.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan), meant


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


def _parse(trt: Any, network: Any, log: Messages, onnx_path: Path) -> None:
    parser = trt.OnnxParser(network, logger_of(trt))
    if parser.parse(onnx_path.read_bytes()):
        return
    if parser.num_errors == 0:
        raise BuildError(f"TensorRT's ONNX parser refused {onnx_path}: {log.last_errors()}")
    error = parser.get_error(0)
    named = error.node_name()
    layer = f"layer {named} ({error.node_operator()}): " if named else ""
    raise BuildError(
        f"TensorRT's ONNX parser refused {onnx_path}: {layer}{error.desc()}; export the model again with this "
        f"edgepose{', and if the layer stays, replace it in the network' if named else ''}"
    )


def _configure(trt: Any, builder: Any, network: Any, config: Any, options: BuildOptions) -> None:
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    batch = tensors[0].shape[0]
    if batch == -1:
        for least, optimal, most in _batches(options):
            profile = builder.create_optimization_profile()
            for tensor in tensors:
                shape = tuple(tensor.shape)[1:]
                profile.set_shape(tensor.name, (least, *shape), (optimal, *shape), (most, *shape))
            config.add_optimization_profile(profile)
    elif (options.max_batch, options.optimal_batch or batch) != (batch, batch):
        raise BuildError(
            f"this ONNX has a fixed batch of {batch}: build it with --max-batch {batch}, without --optimal-batch"
        )
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.dla is not None:
        if options.dla >= builder.num_DLA_cores:
            raise BuildError(
                f"--dla {options.dla}: this machine has {builder.num_DLA_cores} DLA cores: leave out --dla"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if options.targets:
        config.num_compute_capabilities = len(options.targets)
        for index, target in enumerate(options.targets):
            name = target.upper().replace("_", "")
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    if options.timing_cache is not None:
        _read_timing_cache(config, options.timing_cache)


def _batches(options: BuildOptions) -> list[tuple[int, int, int]]:
    """Least, optimal and largest batch of each profile: for one alone another than for many, unless told otherwise."""
    most = options.max_batch
    if options.dla is not None:  # which takes no dynamic shapes
        return [(most, most, most)]
    if options.optimal_batch is not None or most == 1:
        return [(1, options.optimal_batch or most, most)]
    return [(1, most, most), (1, 1, 1)]


def _read_timing_cache(config: Any, path: Path) -> None:
    known = path.read_bytes() if path.is_file() else b""
    cache, empty = config.create_timing_cache(known), config.create_timing_cache(b"")
    # what it cannot read becomes an empty cache, which would then be written over the file
    unread = known and bytes(cache.serialize()) == bytes(empty.serialize()) != known
    if unread or not config.set_timing_cache(cache, False):
        raise BuildError(f"{path} is no timing cache, or that of another TensorRT or GPU: delete it, or name another")


@contextmanager
def _explained(log: Messages, onnx_path: Path) -> Iterator[None]:
    """TensorRT's constructors return null on failure, which its bindings report as a TypeError without a reason."""
    try:
        yield
    except (TypeError, RuntimeError) as error:
        if not log.errors:
            raise
        raise BuildError(f"TensorRT could not build {onnx_path}: {log.last_errors()}") from error


@dataclass
class _Interruption:
    """Why a build is to end, if it is."""

    reason: BaseException | None = None


@contextmanager
def _interruptible(trt: Any, config: Any, progress: Progress | None) -> Iterator[_Interruption]:
    """Report steps, and let Ctrl-C end the build at its next step: an exception must not pass through C++."""
    interruption = _Interruption()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if progress is not None:
                    progress(phase_name, step + 1, self.steps.get(phase_name, 0))
            except BaseException as error:
                interruption.reason = error
            return interruption.reason is None

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    def press(*_: Any) -> None:
        interruption.reason = KeyboardInterrupt()

    monitor = Monitor()  # must outlive the build: TensorRT keeps the pointer
    config.progress_monitor = monitor
    if threading.current_thread() is not threading.main_thread():  # signals can be set in the main thread only
        yield interruption
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def parse_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """('sm_86', '89') -> ('sm_86', 'sm_89'), each once."""
    return tuple(dict.fromkeys("sm_" + target.lower().removeprefix("sm").removeprefix("_") for target in targets))
