"""Trains the networks whose weights are in the package, from labelled photographs and drawn people.

    python -m edgepose.export.training.train --model simplebaseline_tiny --data DIR --out DIR

DIR has the folders `lsp`, `calib_lspet` and `coco`, each with images/ and person_keypoints.json (COCO key-point form;
the Leeds parts with 14 `keypoints14` as well), and `calib_coco` with images/ and person_boxes.json, for backgrounds.
Nothing pretrained goes in. The run is repeatable with one thread and the same package versions.
"""

from __future__ import annotations

import copy
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgepose.export.drawn.person import KEYPOINTS, Person
from edgepose.export.drawn.rendered import draw_people
from edgepose.export.training.data import backgrounds_of, targets, training_people, vary, vary_close
from edgepose.export.training.held_out import Part, measure, write_held_out
from edgepose.export.training.trainees import TRAINEES, Trainee
from edgepose.files import sha256_of, write_bytes, write_json
from edgepose.io.annotations import read_annotations
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import ModelSpec

BATCH, HIGHEST_RATE, WEIGHT_DECAY, EMA_DECAY = 32, 2.5e-3, 0.02, 0.998
LOSS_SCALE = 100.0  # a mean square of mostly empty maps is tiny
CLOSE_SHARE = 0.5  # of the crops, in the training of a two-pass network

PARTS = (Part("lsp", 0.2, 2), Part("calib_lspet", 0.0, 1), Part("coco", 0.45, 4))
DRAWN_PEOPLE = 300

Keep = Callable[[nn.Module, list[float]], None]


def read_people(data: Path, rng: np.random.Generator) -> tuple[list[Person], list[np.ndarray], dict[str, int]]:
    """Everybody shown in an epoch, pieces of photographs without people, and how many people each source has."""
    backgrounds = backgrounds_of(data / "calib_coco/images", data / "calib_coco/person_boxes.json", rng, count=200)
    shown: list[Person] = []
    counts: dict[str, int] = {}
    poses: list[np.ndarray] = []
    for part in PARTS:
        annotations = read_annotations(data / part.folder / "person_keypoints.json")
        people = training_people(annotations, data / part.folder / "images", part.held_out)
        counts[part.folder] = len(people)
        poses += [person.keypoints for person in people]
        shown += people * part.repeats
    shown += draw_people(poses, backgrounds, DRAWN_PEOPLE, rng)
    counts["drawn"] = DRAWN_PEOPLE
    return shown, backgrounds, counts


def make_batch(
    people: list[Person], spec: ModelSpec, backgrounds: list[np.ndarray], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crops (n, 3, H, W), target maps (n, 19, h, w) and their weights (n, 19) of one random variation each."""
    varied = []
    for person in people:
        close = spec.heatmaps.refine is not None and rng.random() < CLOSE_SHARE
        varied.append((vary_close if close else vary)(person, spec, rng, backgrounds))
    pixels = np.stack([crop for crop, _ in varied]).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (spec.image.mean, spec.image.std))
    crops = ((pixels - mean) / std).transpose(0, 3, 1, 2)
    maps, weights = targets(np.stack([keypoints for _, keypoints in varied]), spec)
    return torch.from_numpy(np.ascontiguousarray(crops)), torch.from_numpy(maps), torch.from_numpy(weights)


def loss_of(heatmaps: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the labelled key points' maps."""
    per_map = ((heatmaps - maps) ** 2).mean((2, 3))
    return LOSS_SCALE * (per_map * weights).sum() / weights.sum().clamp(min=1)


class Average:
    """An exponential moving average of a network's weights: smoother, and better, than the last step's."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval()
        self.steps = 0

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one step; in the beginning each step counts for more."""
        self.steps += 1
        decay = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        for mean, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)


def train(
    trainee: Trainee, people: list[Person], backgrounds: list[np.ndarray], *, epochs: int, seed: int, keep: Keep
) -> None:
    """Train; `keep` gets the averaged network and the mean losses so far after every epoch."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = trainee.make(len(KEYPOINTS)).to(memory_format=torch.channels_last)
    average = Average(network)
    steps = len(people) // BATCH
    if steps == 0:
        raise click.UsageError(f"found {len(people)} people to train on, at least {BATCH} are needed")
    optimiser = torch.optim.AdamW(network.parameters(), lr=HIGHEST_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_RATE, total_steps=steps * epochs, pct_start=0.1)
    losses = []
    for epoch in range(epochs):
        order = rng.permutation(len(people))[: steps * BATCH].reshape(steps, BATCH)
        total = 0.0
        network.train()
        with click.progressbar(order, label=f"epoch {epoch + 1} of {epochs}") as batches:
            for batch in batches:
                crops, maps, weights = make_batch([people[i] for i in batch], trainee.spec, backgrounds, rng)
                with torch.autocast("cpu", torch.bfloat16, enabled=trainee.bfloat16):
                    heatmaps = network(crops.contiguous(memory_format=torch.channels_last))
                loss = loss_of(heatmaps.float(), maps, weights)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                average.update(network)
                total += loss.item()
        losses.append(total / steps)
        click.echo(f"epoch {epoch + 1}: loss {losses[-1]:.4f}")
        keep(average.network, losses)


def shipped_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """What goes into the package: COCO's 17 channels of the head, floats as float16."""
    state = {}
    for key, value in network.state_dict().items():
        kept = value[: len(COCO17)] if key.startswith("final_layer.") else value
        state[key] = kept.contiguous().half() if kept.is_floating_point() else kept
    return state


def recipe(trainee: Trainee, counts: dict[str, int], losses: list[float], run: dict[str, Any]) -> dict[str, Any]:
    """What the weights are and how they came about; `export.zoo` builds the network from it."""
    spec = trainee.spec
    network = trainee.make(len(COCO17)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *spec.image.size_hw))
    return {
        "name": spec.name,
        "purpose": "for trying edgepose and for its tests; published networks are far more accurate",
        **{key: list(value) if isinstance(value, tuple) else value for key, value in trainee.architecture.items()},
        "input_hw": list(spec.image.size_hw),
        "heatmap_hw": list(spec.heatmaps.size_hw),
        "decoder": spec.heatmaps.decoder,
        "blur_kernel": spec.heatmaps.blur_kernel,
        **({"refine": asdict(spec.heatmaps.refine)} if spec.heatmaps.refine else {}),
        "gflops": round(counter.get_total_flops() / 1e9, 2),
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "data": {
            "people": counts,
            "split": "by image: held out if the first byte of its file name's sha256 is under share * 256",
            "held_out_share": {part.folder: part.held_out for part in PARTS},
            "repeats_per_epoch": {part.folder: part.repeats for part in PARTS},
        },
        "training": {
            "optimiser": f"AdamW, one cycle to {HIGHEST_RATE}, weight decay {WEIGHT_DECAY}",
            "batch": BATCH,
            "weight_average_decay": EMA_DECAY,
            "bfloat16": trainee.bfloat16,
            **run,
            "last_loss": round(losses[-1], 4),
            "torch": version("torch"),
        },
    }


@click.command()
@click.option("--model", type=click.Choice(list(TRAINEES)), default="simplebaseline_tiny", show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--epochs", type=click.IntRange(1), help="Times everybody is shown; as the shipped weights if left out.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(model: str, data: Path, out: Path, epochs: int | None, seed: int, threads: int) -> None:
    """Train a network; write its weights, its recipe and the held-out people's annotations to OUT."""
    trainee = TRAINEES[model]
    epochs = epochs or trainee.epochs
    torch.set_num_threads(threads)
    write_held_out(PARTS, data, out)
    start = time.monotonic()
    people, backgrounds, counts = read_people(data, np.random.default_rng(seed))
    click.echo(f"{len(people)} people an epoch, of {counts}")
    weights, about = out / f"{model}.pth", out / f"{model}.json"

    def keep(network: nn.Module, losses: list[float]) -> None:
        buffer = io.BytesIO()
        torch.save(shipped_state(network), buffer)
        write_bytes(weights, buffer.getvalue())
        minutes = round((time.monotonic() - start) / 60, 1)
        run = {"epochs": f"{len(losses)} of {epochs}", "seed": seed, "threads": threads, "minutes": minutes}
        write_json(about, {**recipe(trainee, counts, losses, run), "sha256": sha256_of(weights)})

    train(trainee, people, backgrounds, epochs=epochs, seed=seed, keep=keep)
    held_out = measure(trainee, weights, PARTS, data, out)
    write_json(about, {**json.loads(about.read_text()), "held_out": held_out})
    click.echo(f"wrote {weights} ({weights.stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    main()
