"""What `edgepose verify` costs the CPU: the ONNX's share of it, computed exactly on one thread. No plan and no GPU.

    python -m edgepose.benchmarks.studies.verify_cost m.onnx m.int8.onnx [...]

The plan's runs are counted and answered with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any, cast

import click
import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.cli.verify_command import pictures_of
from edgepose.evaluation.plan_check import Plan, check_plan
from edgepose.model.engine_info import EngineInfo
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions


@dataclass
class NoPlan:
    """A plan that takes no time: all that it gives is 0."""

    passport: Passport
    cuda_graphs: bool = True
    runs: int = field(default=0, init=False)

    @property
    def spec(self) -> ModelSpec:
        """How the file is fed and read."""
        return self.passport.spec

    def crops(self, _: Any, regions: Regions) -> np.ndarray:
        """(N, 3, H, W)."""
        return np.zeros((len(regions), 3, *self.spec.image.size_hw), np.float32)

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """By name (N, ...)."""
        return {
            name: np.zeros([len(crops), *(size or 1 for size in shape)], np.float32)
            for name, shape in self.spec.outputs.items()
        }

    def decode(self, _: Any, regions: Regions) -> np.ndarray:
        """(N, K, 3)."""
        return np.zeros((len(regions), self.spec.num_keypoints, 3), np.float32)

    def keypoints(self, image: Any, regions: Regions, *, flip_test: bool = False) -> np.ndarray:
        """(N, K, 3)."""
        self.runs += 1
        return self.decode(image, regions)


def cost_of(cpu: Backend, max_batch: int) -> dict[str, float]:
    """Seconds of CPU time of a whole check with the drawn pictures, the network's share, its crops, the plan's runs."""
    engine = EngineInfo("tensorrt", "10.3.0", "", ("sm_87",), max_batch, False, None, None)
    plan = NoPlan(replace(cpu.passport, engine=engine))
    figures, run = {"network_s": 0.0, "crops": 0.0}, cpu.run

    def timed(crops: np.ndarray) -> dict[str, np.ndarray]:
        start = process_time()
        found = run(crops)
        figures["network_s"] += process_time() - start
        figures["crops"] += len(crops)
        return found

    cpu.run = timed  # type: ignore[method-assign]
    start = process_time()
    check_plan(cpu, cast(Plan, plan), pictures_of(None)[0])
    return {"all_s": process_time() - start, **figures, "runs": plan.runs}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--max-batch", type=click.IntRange(1), default=8, show_default=True)
def main(files: tuple[Path, ...], max_batch: int) -> None:
    """Print a row for each of FILES."""
    for file in files:
        start = process_time()
        with load_backend(file, exact=True, threads=1) as cpu:
            opened = process_time() - start
            cost = cost_of(cpu, max_batch)
        click.echo(
            f"{file.name}: opened in {opened:.1f} s of CPU time, compared in {cost['all_s']:.1f} s, of it the network "
            f"{cost['network_s']:.1f} s for {cost['crops']:.0f} crops; {cost['runs']} frames through the plan"
        )


if __name__ == "__main__":
    main()
