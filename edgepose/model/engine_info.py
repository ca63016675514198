"""What a TensorRT plan's passport says of the plan itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepose.model.computes import Computes
from edgepose.model.plain import from_plain
from edgepose.model.verdict import Verdict

OLDEST_TENSORRT = (10, 3)  # of JetPack 6.1
LARGEST_COUNT = 65535  # people in one launch: a grid's z
RUNTIMES = ("tensorrt", "tensorrt_rtx")  # the modules that a plan's passport may name: they are imported


@dataclass(frozen=True)
class KernelsFile:
    """The CUDA kernels compiled beside a plan: the file's name, and the sha256 of its bytes."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        _check_types(self, {"file": str, "sha256": str})
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 {self.sha256[:80]!r}: damaged")


@dataclass(frozen=True)
class EngineInfo:
    """How a plan was built, and for what.

    Attributes:
        runtime: the module it was built with, one of RUNTIMES.
        tensorrt: that module's version.
        gpu: name of the GPU; empty where it was built for named targets.
        targets: compute capabilities, ("sm_87",).
        max_batch: most crops in one run.
        version_compatible: it also runs with later TensorRT releases of the same major version.
        dla: core of the deep learning accelerator that it uses, or None.
        kernels: compiled for the targets, or None.
        multiprocessors: the GPU's SMs; None where it was built for named targets, and of older passports.
        computes: what precisions it computes in; None where TensorRT did not tell, and of older passports.
        memory_mib: the GPU's memory; None as of multiprocessors.
        verdict: what `edgepose verify` found on the device; None if it never ran.
    """

    runtime: str
    tensorrt: str
    gpu: str
    targets: tuple[str, ...]
    max_batch: int
    version_compatible: bool
    dla: int | None
    kernels: KernelsFile | None
    multiprocessors: int | None = None
    memory_mib: int | None = None
    verdict: Verdict | None = None
    computes: Computes | None = None

    def __post_init__(self) -> None:
        if isinstance(self.verdict, Mapping):
            object.__setattr__(self, "verdict", from_plain(Verdict, self.verdict, "verdict"))
        if isinstance(self.computes, Mapping):
            object.__setattr__(self, "computes", from_plain(Computes, self.computes, "computes"))
        if isinstance(self.kernels, Mapping):  # from JSON
            object.__setattr__(self, "kernels", from_plain(KernelsFile, self.kernels, "kernels"))
        types = {"runtime": str, "tensorrt": str, "gpu": str, "targets": tuple, "max_batch": int}
        _check_types(self, {**types, "version_compatible": bool, "dla": (int, type(None))})
        _check_types(self, {"kernels": (KernelsFile, type(None)), "verdict": (Verdict, type(None))})
        _check_types(self, {"computes": (Computes, type(None))})
        _check_types(self, {"multiprocessors": (int, type(None)), "memory_mib": (int, type(None))})
        if self.runtime not in RUNTIMES:  # it is imported
            raise ValueError(f"runtime {self.runtime[:80]!r}; known: {', '.join(RUNTIMES)}")
        for key, fits in (
            ("tensorrt", re.fullmatch(r"\d{1,4}(\.\w{1,20}){1,5}", self.tensorrt)),
            ("targets", self.targets and all(re.fullmatch(r"sm_\d{2,4}", str(each)) for each in self.targets)),
            ("max_batch", 1 <= self.max_batch <= LARGEST_COUNT),
            ("dla", self.dla is None or 0 <= self.dla < 16),
        ):
            if not fits:
                raise ValueError(f"{key} {str(getattr(self, key))[:80]!r}: damaged")


def engine_from_json(data: Any) -> EngineInfo:
    """What `to_plain` made of one; ModelFileError on anything else."""
    return from_plain(EngineInfo, data, "engine")


def _check_types(thing: Any, kinds: Mapping[str, Any]) -> None:
    for key, kind in kinds.items():
        value = getattr(thing, key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{key} {value!r}: not of the right type")
