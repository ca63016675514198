"""What is checked of a TensorRT plan before TensorRT sees it, and the TensorRT that runs it.

TensorRT's own answers to a plan of another GPU or version name neither; here the passport does.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from edgepose.errors import BackendError, EngineMismatchError, ModelFileError
from edgepose.machine.gpu import Gpu
from edgepose.machine.packages import is_absent, load_failure
from edgepose.model.passport import Passport, passport_path, read_passport
from edgepose.trt.build import version_of

SMALLER = ("tensorrt_lean", "tensorrt_dispatch")  # they run version-compatible plans, and only those


def read_engine_passport(plan: Path) -> Passport:
    """A plan's passport.

    Raises:
        ModelFileError: there is no such plan.
        EngineMismatchError: the passport is missing or damaged, or is not this plan's; says how to build it anew.
    """
    if not plan.is_file():
        raise ModelFileError(f"{plan}: no such file")
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
    found, wanted = _numbers(built), version_of(trt)[:3]
    fits = found[0] == wanted[0] and found <= wanted if info.version_compatible else found == wanted
    if not fits:
        raise EngineMismatchError(
            f"{plan} was built with {info.runtime} {built}, this is {trt.__name__} {here}: "
            f"build it here: {build_line(plan, passport)}"
        )
    # TensorRT's plans are tuned for one model of GPU, those of TensorRT for RTX are for all of an architecture
    other_model = info.runtime == "tensorrt" and info.gpu not in ("", gpu.name)
    if gpu.target not in info.targets or other_model:
        built_for = f"{info.gpu} ({', '.join(info.targets)})" if info.gpu else info.targets[0]
        raise EngineMismatchError(
            f"{plan} was built for {built_for}, this is {gpu.name} ({gpu.target}): "
            f"build it here: {build_line(plan, passport)}"
        )


def load_runtime(plan: Path, passport: Passport) -> Any:
    """The TensorRT module that runs a plan: the one it was built with, or a smaller one of a version-compatible plan.

    Raises:
        BackendError: it is not installed for this Python, or does not load.
    """
    info = passport.plan
    for name in (info.runtime, *(SMALLER if info.version_compatible else ())):
        try:
            return import_module(name)
        except (ImportError, OSError) as error:
            if not is_absent(error, name):
                raise BackendError(f"{plan}: {load_failure(error, name)}: see edgepose doctor") from error
    cure = (
        "pip install tensorrt-rtx-cu13"
        if info.runtime == "tensorrt_rtx"
        else "on a Jetson, apt install python3-libnvinfer and make the virtual environment with --system-site-packages"
    )
    raise BackendError(f"{plan} runs in {info.runtime} {info.tensorrt}, which is not installed for this Python: {cure}")


def build_line(plan: Path, passport: Passport, max_batch: int | None = None) -> str:
    """The command that builds a plan as it was built before, or for another number of people at a time."""
    info = passport.plan
    onnx = next(iter(passport.made_from), "MODEL.onnx")
    options = [f"-o {quote(str(plan))}", f"--max-batch {max_batch or info.max_batch}"]
    options += ["--version-compatible"] * info.version_compatible
    options += [] if info.dla is None else [f"--dla {info.dla}"]
    options += ["--runtime tensorrt_rtx"] * (info.runtime == "tensorrt_rtx")
    return f"edgepose build {quote(onnx)} {' '.join(options)}"


def _plain_build_line(plan: Path) -> str:
    return f"edgepose build MODEL.onnx -o {plan}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())[:3]
