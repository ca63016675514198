"""How an engine is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepose.model.engine_info import LARGEST_COUNT

LARGEST_WORKSPACE_MIB = 1 << 20  # more than any GPU has; TensorRT counts bytes in 64 bits


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


def parse_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """('sm_86', '89') -> ('sm_86', 'sm_89'), each once."""
    return tuple(dict.fromkeys("sm_" + target.lower().removeprefix("sm").removeprefix("_") for target in targets))
