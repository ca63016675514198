"""Trains `simcc_tiny`, a small SimCC network, on the people that `train` learns from.

    python -m edgepose.export.training.train_simcc --data DIR --out DIR

DIR is that of `train`. The trunk begins with the weights of `simplebaseline_tiny`, which are the project's own. What
comes out is not in the package, because `simplebaseline_tiny` is better; INT8 of SimCC heads is measured on it
(docs/measurements/simcc_int8.md).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from edgepose.export.drawn.person import KEYPOINTS, Person
from edgepose.export.networks.simcc_tiny import SimCCTiny
from edgepose.export.pipeline import export_model
from edgepose.export.training.data import vary
from edgepose.export.training.held_out import measure, write_held_out
from edgepose.export.training.simcc import loss_of, targets
from edgepose.export.training.train import BATCH, PARTS, WEIGHT_DECAY, Average, read_people, shipped_state
from edgepose.export.training.trainees import Trainee
from edgepose.export.zoo.model import WEIGHTS, Model
from edgepose.files import sha256_of, write_bytes, write_json
from edgepose.model.heads.simcc import SimCC
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import Input, ModelSpec, Region

INPUT_HW = (128, 96)
SPEC = ModelSpec("simcc_tiny", Input(INPUT_HW), SimCC(split_ratio=2.0, sigma=(3.46, 4.0)), COCO17, Region())
ARCHITECTURE: dict[str, Any] = {"depth": 18, "planes": (24, 48, 96, 160), "deconv_filters": 64, "token": 64}
HIGHEST_RATE = 1e-3
TRUNK = WEIGHTS / "simplebaseline_tiny.pth"

Keep = Callable[[nn.Module, list[float]], None]


def make_network(num_keypoints: int) -> SimCCTiny:
    """With initial weights; those of the new layers small, so that all bins begin alike."""
    network = SimCCTiny(num_keypoints, INPUT_HW, **ARCHITECTURE)
    for part in (network.mlp, network.gau, network.cls_x, network.cls_y):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
    nn.init.normal_(network.final_layer.weight, std=0.01)
    assert network.final_layer.bias is not None
    nn.init.zeros_(network.final_layer.bias)
    return network


def take_trunk(network: SimCCTiny, weights: Path = TRUNK) -> None:
    """Load `simplebaseline_tiny`'s weights into the layers that both have, but for the last one."""
    own, theirs = network.state_dict(), torch.load(weights, weights_only=True)
    shared = [key for key in theirs if key in own and not key.startswith("final_layer.")]
    network.load_state_dict({key: theirs[key].to(own[key].dtype) for key in shared}, strict=False)


def make_batch(
    people: list[Person], backgrounds: list[np.ndarray], rng: np.random.Generator
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Crops (n, 3, H, W), vectors (n, 19, 2 W) and (n, 19, 2 H), weights (n, 19) of one random variation each."""
    varied = [vary(person, SPEC, rng, backgrounds) for person in people]
    pixels = np.stack([crop for crop, _ in varied]).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (SPEC.image.mean, SPEC.image.std))
    crops = np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))
    head = SPEC.head
    assert isinstance(head, SimCC)
    x, y, weights = targets(np.stack([keypoints for _, keypoints in varied]), head, INPUT_HW)
    return torch.from_numpy(crops), (torch.from_numpy(x), torch.from_numpy(y)), torch.from_numpy(weights)


def train(
    network: SimCCTiny, people: list[Person], backgrounds: list[np.ndarray], *, epochs: int, seed: int, keep: Keep
) -> None:
    """Train; `keep` gets the averaged network and the mean losses so far after every epoch."""
    rng = np.random.default_rng(seed)
    network = network.to(memory_format=torch.channels_last)
    average = Average(network)
    steps = len(people) // BATCH
    if steps == 0:
        raise click.UsageError(f"found {len(people)} people to train on, at least {BATCH} are needed")
    optimiser = torch.optim.AdamW(network.parameters(), lr=HIGHEST_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_RATE, total_steps=steps * epochs, pct_start=0.1)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        network.train()
        for batch in rng.permutation(len(people))[: steps * BATCH].reshape(steps, BATCH):
            crops, wanted, weights = make_batch([people[i] for i in batch], backgrounds, rng)
            with torch.autocast("cpu", torch.bfloat16):
                x, y = network(crops.contiguous(memory_format=torch.channels_last))
            loss = loss_of((x.float(), y.float()), wanted, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            average.update(network)
            total += loss.item()
        losses.append(total / steps)
        click.echo(f"epoch {epoch + 1} of {epochs}: loss {losses[-1]:.4f}")
        keep(average.network, losses)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--epochs", type=click.IntRange(1), default=18, show_default=True, help="Times everybody is shown.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, out: Path, epochs: int, seed: int, threads: int) -> None:
    """Train; write simcc_tiny's weights, their recipe, its ONNX and the held-out people's annotations to OUT."""
    torch.set_num_threads(threads)
    write_held_out(PARTS, data, out)
    start = time.monotonic()
    people, backgrounds, counts = read_people(data, np.random.default_rng(seed))
    click.echo(f"{len(people)} people an epoch, of {counts}")
    torch.manual_seed(seed)
    network = make_network(len(KEYPOINTS))
    take_trunk(network)
    weights = out / "simcc_tiny.pth"
    about: dict[str, Any] = {}

    def keep(averaged: nn.Module, losses: list[float]) -> None:
        buffer = io.BytesIO()
        torch.save(shipped_state(averaged), buffer)
        write_bytes(weights, buffer.getvalue())
        about.update(
            epochs=f"{len(losses)} of {epochs}",
            people=counts,
            seed=seed,
            minutes=round((time.monotonic() - start) / 60, 1),
            losses=losses,
            torch=version("torch"),
            sha256=sha256_of(weights),
        )
        write_json(out / "simcc_tiny.json", about)

    train(network, people, backgrounds, epochs=epochs, seed=seed, keep=keep)
    trainee = Trainee(SPEC, ARCHITECTURE, make_network, epochs, bfloat16=True)
    write_json(out / "simcc_tiny.json", {**about, "held_out": measure(trainee, weights, PARTS, data, out)})
    model = Model(SPEC.name, "", SPEC, lambda style: make_network(len(COCO17)), gflops=0, params=0)
    export_model(model, out, weights=str(weights))
    click.echo(f"wrote {weights} ({weights.stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    main()
