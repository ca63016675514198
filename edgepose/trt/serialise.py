"""An ONNX through TensorRT's parser and builder: the bytes of a plan. Files and passports are build.py's.

This is the one file that knows how the builders of TensorRT 10.3 to 11.4 and TensorRT for RTX differ.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepose.errors import BuildError
from edgepose.trt.interleaving import MOVED, move_pairs
from edgepose.trt.log import Messages, logger_of
from edgepose.trt.meant import Meant, meant_of
from edgepose.trt.options import BuildOptions

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


def build_plan(
    trt: Any,
    log: Messages,
    onnx_path: Path,
    options: BuildOptions,
    cache_file: Path | None,
    progress: Progress | None,
    mark: Callable[[Any], None] | None = None,
) -> tuple[bytes, Meant]:
    """The plan, and what the network that it is of was meant to compute in.

    Args:
        cache_file: where the timing cache goes.
        progress: as of build_engine.
        mark: called with the parsed network before it is built.

    Raises:
        BuildError: TensorRT refused; carries its last error lines.
    """
    with _explained(log, onnx_path):
        builder = trt.Builder(logger_of(trt))
        for moved in (False, True):
            network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
            _parse(trt, network, log, onnx_path)
            if moved and (log.out_of_memory() or not move_pairs(trt, network)):
                break
            meant = meant_of(trt, network)
            if mark is not None:
                mark(network)
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
