"""Which TensorRT is here: the one place that imports it, for a build and for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgepose.errors import BackendError, BuildError, EdgeposeError
from edgepose.machine.packages import is_absent, load_failure
from edgepose.model.engine_info import OLDEST_TENSORRT, RUNTIMES, EngineInfo

SMALLER = ("tensorrt_lean", "tensorrt_dispatch")  # they run version-compatible plans, and only those
_JETSON = "on a Jetson, apt install python3-libnvinfer and make the virtual environment with --system-site-packages"
_RTX = "pip install tensorrt-rtx-cu13"


def load_builder(runtime: str | None = None) -> Any:
    """The TensorRT module that builds: `tensorrt`, or `tensorrt_rtx` where only that is installed.

    Raises:
        BuildError: neither (or not the one named) is installed, or it does not load, or it is older than 10.3.
    """
    trt = _import_first((runtime,) if runtime else RUNTIMES, BuildError)
    if trt is None:
        name = runtime or "TensorRT"
        raise BuildError(f"{name} is not installed for this Python: {_JETSON}; on a desktop, {_RTX}")
    if trt.__name__ == "tensorrt" and version_of(trt) < OLDEST_TENSORRT:
        raise BuildError(f"TensorRT {trt.__version__} found, 10.3 or newer wanted: install JetPack 6.1 or newer")
    return trt


def load_runner(plan: Path, info: EngineInfo) -> Any:
    """The TensorRT module that runs a plan: the one it was built with, or a smaller one of a version-compatible plan.

    Raises:
        BackendError: it is not installed for this Python, or does not load.
    """
    trt = _import_first((info.runtime, *(SMALLER if info.version_compatible else ())), BackendError)
    if trt is None:
        cure = _RTX if info.runtime == "tensorrt_rtx" else _JETSON
        found = f"{plan} runs in {info.runtime} {info.tensorrt}, which is not installed for this Python"
        raise BackendError(f"{found}: {cure}")
    return trt


def version_of(trt: Any) -> tuple[int, ...]:
    """A TensorRT module's version as numbers: 10.3.0.26 -> (10, 3, 0, 26)."""
    return as_numbers(trt.__version__)


def as_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, without what is none: "10.3.0.post1" -> (10, 3, 0)."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _import_first(names: Sequence[str], failure: type[EdgeposeError]) -> Any | None:
    """The first module that is installed, None if none is; `failure` where one is there and does not load."""
    for name in names:
        try:
            return import_module(name)
        except (ImportError, OSError) as error:  # OSError: from a wheel that loads its libraries itself
            if not is_absent(error, name):
                raise failure(f"{load_failure(error, name)}: see edgepose doctor") from error
    return None
