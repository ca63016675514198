"""What is checked of a TensorRT plan before TensorRT sees it, and how TensorRT opens it.

TensorRT's own answers to a plan of another GPU or version name neither; here the passport does.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from edgepose.errors import BackendError, EngineMismatchError, ModelFileError
from edgepose.files import why_no_file
from edgepose.machine.gpu import Gpu
from edgepose.model.passport import Passport, passport_path, read_passport
from edgepose.trt.log import logger_of, messages_of
from edgepose.trt.versions import as_numbers, version_of

LARGEST_RATIO = 1.25  # of the memory of two boards of one kind


def read_engine_passport(plan: Path) -> Passport:
    """A plan's passport.

    Raises:
        ModelFileError: there is no such plan, or it is an ONNX.
        EngineMismatchError: the passport is missing or damaged, or is not this plan's; says how to build it anew.
    """
    if not plan.is_file():
        raise ModelFileError(f"{plan}: {why_no_file(plan)}")
    if not passport_path(plan).is_file():
        raise EngineMismatchError(
            f"{plan} has no passport ({passport_path(plan).name}), and without it nobody knows what it was built for: "
            f"copy it along with the plan, or build it here: {_plain_build_line(plan)}"
        )
    try:
        passport = read_passport(plan)
    except ModelFileError as error:
        raise EngineMismatchError(f"{error}; or build it here: {_plain_build_line(plan)}") from error
    if passport.engine is None:
        if plan.suffix == ".onnx":
            raise ModelFileError(f"{plan} is an ONNX; wanted: the plan that was built from it (edgepose build {plan})")
        raise EngineMismatchError(
            f"{plan}: its passport is that of an ONNX, not of an engine: build it here: {_plain_build_line(plan)}"
        )
    return passport


def check_engine(plan: Path, passport: Passport, gpu: Gpu, trt: Any) -> None:
    """Compare what a plan was built for with what is here.

    Raises:
        EngineMismatchError: another GPU, or another TensorRT; says what was found, what is here and what to run.
    """
    info = passport.plan
    built, here = info.tensorrt, trt.__version__
    found, wanted = as_numbers(built)[:3], version_of(trt)[:3]
    fits = found[0] == wanted[0] and found <= wanted if info.version_compatible else found == wanted
    if not fits:
        raise EngineMismatchError(
            f"{plan} was built with {info.runtime} {built}, this is {trt.__name__} {here}: "
            f"build it here: {build_line(plan, passport)}"
        )
    # TensorRT's plans are tuned for one model of GPU, those of TensorRT for RTX are for all of an architecture
    # all Orins may bear one name, and have 4 to 16 SMs and 4 to 64 GB
    other_memory = _differs(info.memory_mib, gpu.memory_mib)
    other_model = info.gpu not in ("", gpu.name) or info.multiprocessors not in (None, gpu.multiprocessors)
    other_model |= other_memory
    other_model = other_model and info.runtime == "tensorrt"
    if gpu.target not in info.targets or other_model:
        counted = info.gpu == gpu.name and info.multiprocessors is not None
        built_for = f"{info.gpu} ({', '.join(info.targets)})" if info.gpu else info.targets[0]
        built_for += f" with {info.multiprocessors} SMs" if counted else ""
        here = f"{gpu.name} ({gpu.target})" + (f" with {gpu.multiprocessors} SMs" if counted else "")
        if other_memory and info.gpu == gpu.name:
            built_for, here = f"{built_for} and {info.memory_mib} MiB", f"{here} and {gpu.memory_mib} MiB"
        raise EngineMismatchError(
            f"{plan} was built for {built_for}, this is {here}: build it here: {build_line(plan, passport)}"
        )


def _differs(built_mib: int | None, here_mib: int | None) -> bool:
    """Whether two sizes of memory are those of different boards: what the system keeps for itself varies by less."""
    if built_mib is None or here_mib is None:
        return False
    return max(built_mib, here_mib) > LARGEST_RATIO * min(built_mib, here_mib)


def open_plan(trt: Any, plan: Path, passport: Passport, data: bytes | None = None) -> tuple[Any, Any]:
    """TensorRT's runtime and the plan's engine. The runtime must outlive the engine.

    Args:
        data: what shall stand in the file, where it is not written yet; None to read it.

    Raises:
        ModelFileError: TensorRT cannot read the plan; carries its last error lines.
        BackendError: the GPU's memory does not hold it.
    """
    info = passport.plan
    with messages_of(trt) as log:
        try:
            runtime = trt.Runtime(logger_of(trt))
            if info.version_compatible:
                runtime.engine_host_code_allowed = True  # such a plan brings its own small runtime along
            if info.dla is not None:
                runtime.DLA_core = info.dla
            engine = runtime.deserialize_cuda_engine(plan.read_bytes() if data is None else data)
        except (TypeError, RuntimeError):  # how the bindings say null
            engine = None
        if engine is not None:
            return runtime, engine
        reason = log.last_errors()
    if log.out_of_memory():
        raise BackendError(f"the GPU's memory does not hold {plan}: {reason}")
    raise ModelFileError(f"TensorRT cannot read {plan} ({reason}): {build_line(plan, passport)}")


def runtime_cache_path(plan: Path) -> Path:
    """Where TensorRT for RTX keeps the kernels that it compiled for a plan: the plan's name with .cache behind it."""
    return Path(f"{plan}.cache")


def build_line(plan: Path, passport: Passport, max_batch: int | None = None) -> str:
    """The command that builds a plan as it was built before, or for another number of people at a time."""
    info = passport.plan
    onnx = next(iter(passport.made_from), "MODEL.onnx")
    options = [f"-o {quote(str(plan))}", f"--max-batch {max_batch or info.max_batch}"]
    options += ["--version-compatible"] * info.version_compatible
    options += [] if info.dla is None else [f"--dla {info.dla}"]
    options += ["--runtime tensorrt_rtx"] * (info.runtime == "tensorrt_rtx")
    return f"edgepose build {quote(onnx)} {' '.join(options)}"


def smaller_batch(plan: Path, passport: Passport) -> str:
    """What to say where the GPU's memory does not hold a plan."""
    half = passport.plan.max_batch // 2
    smaller = f", or build it for fewer people at a time: {build_line(plan, passport, half)}" if half else ""
    return f"the GPU's memory does not hold {plan} beside what else is there: close other programs{smaller}"


def _plain_build_line(plan: Path) -> str:
    return f"edgepose build MODEL.onnx -o {plan}"
