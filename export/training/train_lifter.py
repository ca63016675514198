"""Trains the lifter whose weights are in the package, from motion capture seen by made-up cameras.

    python -m edgepose.export.training.train_lifter --motions FILE.npz --out DIR

FILE has the motions of `motions.read_motions`. The motions of `motions.HELD_OUT` are not trained on; the table that the
script prints at its end, and writes into the recipe, is of them. Nothing pretrained goes in. The run is repeatable with
one thread and the same package versions.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgepose.evaluation.position_errors import mpjpe, n_mpjpe, p_mpjpe
from edgepose.export.networks.temporal_convolutions import TemporalConvolutions
from edgepose.export.training.motions import (
    HELD_OUT,
    Motion,
    detected,
    read_motions,
    sample_windows,
    seen_from,
    with_other_bones,
)
from edgepose.export.training.train import Average
from edgepose.files import sha256_of, write_bytes, write_json
from edgepose.model.skeletons import BODY15
from edgepose.stages.lifting import person_units

NAME = "lifter_tiny"
WIDTHS, CHANNELS = (3, 3, 3), 384
BATCH, HIGHEST_RATE, WEIGHT_DECAY = 256, 2e-3, 0.02
STEPS, KEEP_EVERY = 4500, 500
LEVELS = (0.0, 0.9)  # of the detector's error, see motions.detected
MEASURED_LEVELS, MEASURED_WINDOWS = (0.0, 0.65), 500  # a motion
ROOT = BODY15.keypoints.index("pelvis")


def make_network() -> TemporalConvolutions:
    """The network with initial weights."""
    return TemporalConvolutions(len(BODY15), len(BODY15), WIDTHS, channels=CHANNELS)


def make_batch(windows: np.ndarray, levels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a lifter sees of windows (n, frames, 15, 3), and what it should say of their middle frames (n, 15, 3)."""
    camera = seen_from(windows, rng)
    points = detected(camera, levels, rng)
    middle = camera[:, camera.shape[1] // 2]
    return person_units(points, points[:, :, ROOT]), (middle - middle[:, ROOT, None]).astype(np.float32)


def train(motions: Sequence[Motion], *, steps: int, seed: int, keep: Any) -> None:
    """Train; `keep` gets the averaged network, the steps done and their mean loss, now and then and at the end."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = make_network()
    average = Average(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=HIGHEST_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_RATE, total_steps=steps, pct_start=0.05)
    losses: list[float] = []
    network.train()
    for step in range(1, steps + 1):
        windows = with_other_bones(sample_windows(motions, network.frames, BATCH, rng), rng)
        points, positions = make_batch(windows, rng.uniform(*LEVELS, BATCH), rng)
        found = network(torch.from_numpy(points))
        loss = (found - torch.from_numpy(positions)).norm(dim=2).mean()  # MPJPE, as VideoPose3D's training has it
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        average.update(network)
        losses.append(loss.item())
        if step % KEEP_EVERY == 0 or step == steps:
            recent = float(np.mean(losses[-KEEP_EVERY:]))
            click.echo(f"step {step} of {steps}: MPJPE {1000 * recent:.1f} mm in training")
            keep(average.network, step, recent)


def measure(network: nn.Module, motions: Sequence[Motion], frames: int) -> dict[str, dict[str, dict[str, float]]]:
    """Errors in mm of each held-out motion and of all, for each level of the detector's error; beside two baselines.

    "mean pose": the mean of what is to be found in training. "depth 0": the picture's points as they are, with the
    training's mean of metres a unit, and no depth.
    """
    seen = [motion for motion in motions if motion.name not in HELD_OUT]
    rng = np.random.default_rng(1)
    points, positions = make_batch(sample_windows(seen, frames, 4000, rng), np.zeros(4000), rng)
    mean_pose = positions.mean(axis=0)
    flat = points[:, frames // 2]
    metres = float((flat * positions[..., :2]).sum() / (flat**2).sum())
    table: dict[str, dict[str, dict[str, float]]] = {}
    for level in MEASURED_LEVELS:
        rows = {}
        for motion in motions:
            if motion.name not in HELD_OUT:
                continue
            windows = sample_windows([motion], frames, MEASURED_WINDOWS, rng)
            points, positions = make_batch(windows, np.full(len(windows), level), rng)
            with torch.no_grad():
                found = network(torch.from_numpy(points)).numpy()
            found -= found[:, ROOT, None]
            flat = np.concatenate([points[:, frames // 2] * metres, np.zeros((*found.shape[:2], 1))], axis=2)
            rows[motion.name] = {
                "MPJPE": mpjpe(found, positions).mean(),
                "N-MPJPE": n_mpjpe(found, positions).mean(),
                "P-MPJPE": p_mpjpe(found, positions).mean(),
                "mean pose": mpjpe(np.broadcast_to(mean_pose, positions.shape), positions).mean(),
                "depth 0": mpjpe(flat, positions).mean(),
            }
        rows["all"] = {key: float(np.mean([row[key] for row in rows.values()])) for key in rows[HELD_OUT[0]]}
        table[f"{level:g}"] = {
            name: {key: round(1000 * float(value), 1) for key, value in row.items()} for name, row in rows.items()
        }
    return table


def text_of(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table as Markdown."""
    columns = list(next(iter(next(iter(table.values())).values())))
    lines = [f"| detector's error | motion | {' | '.join(columns)} |", "| --- " * (len(columns) + 2) + "|"]
    for level, rows in table.items():
        for name, row in rows.items():
            lines.append(f"| {level} | {name} | {' | '.join(f'{row[column]:.0f}' for column in columns)} |")
    return "\n".join(lines)


def recipe(steps: str, seed: int, loss: float, minutes: float, motions: Sequence[Motion]) -> dict[str, Any]:
    """What the weights are and how they came about; the zoo builds the network from it."""
    network = make_network().eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, network.frames, len(BODY15), 2))
    return {
        "name": NAME,
        "purpose": "for trying 3D and for its tests: trained on 11 motions of one body; "
        "published lifters have seen far more",
        "frames": network.frames,
        "widths": list(WIDTHS),
        "channels": CHANNELS,
        "gflops": round(counter.get_total_flops() / 1e9, 3),
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "data": {
            "trained_on": [motion.name for motion in motions if motion.name not in HELD_OUT],
            "held_out": list(HELD_OUT),
        },
        "training": {
            "optimiser": f"AdamW, one cycle to {HIGHEST_RATE}, weight decay {WEIGHT_DECAY}",
            "batch": BATCH,
            "steps": steps,
            "detector_error": list(LEVELS),
            "seed": seed,
            "threads": torch.get_num_threads(),
            "minutes": minutes,
            "last_loss_mm": round(1000 * loss, 1),
            "torch": version("torch"),
        },
    }


@click.command()
@click.option("--motions", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(file: Path, out: Path, steps: int, seed: int, threads: int) -> None:
    """Train the lifter; write its weights and its recipe to OUT."""
    torch.set_num_threads(threads)
    start = time.monotonic()
    motions = read_motions(file)
    out.mkdir(parents=True, exist_ok=True)
    weights, about = out / f"{NAME}.pth", out / f"{NAME}.json"

    def keep(network: nn.Module, done: int, loss: float) -> None:
        half = {
            key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()
        }
        buffer = io.BytesIO()
        torch.save(half, buffer)
        write_bytes(weights, buffer.getvalue())
        minutes = round((time.monotonic() - start) / 60, 1)
        described = recipe(f"{done} of {steps}", seed, loss, minutes, motions)
        write_json(about, {**described, "sha256": sha256_of(weights)})

    train([motion for motion in motions if motion.name not in HELD_OUT], steps=steps, seed=seed, keep=keep)
    network = make_network().eval()
    network.load_state_dict({key: value.float() for key, value in torch.load(weights, weights_only=True).items()})
    table = measure(network, motions, network.frames)
    write_json(about, {**json.loads(about.read_text()), "held_out_mm": table})
    click.echo(text_of(table))
    click.echo(f"wrote {weights} ({weights.stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    main()
