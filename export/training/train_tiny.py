"""Trains simplebaseline_tiny, the embedded model, from labelled photographs and drawn people.

    python -m edgepose.export.training.train_tiny --data DIR --out DIR

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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgepose.evaluation import evaluate
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.pipeline import export_model
from edgepose.export.training.data import (
    KEYPOINTS,
    Person,
    backgrounds_of,
    is_held_out,
    targets,
    training_people,
    vary,
)
from edgepose.export.training.rendered import draw_people
from edgepose.export.zoo import Model
from edgepose.files import sha256_of, write_bytes, write_json
from edgepose.io.annotations import read_annotations
from edgepose.passport import ModelSpec
from edgepose.skeletons import COCO17

NAME = "simplebaseline_tiny"
FIGURES = ("AP", "AP50", "PCK@0.2")  # noted in the recipe
SPEC = ModelSpec(NAME, (128, 96), (32, 24), COCO17, decoder="dark", blur_kernel=7, flip_shift=1)
DEPTH, PLANES, DECONV_FILTERS = 18, (24, 48, 96, 160), 64
BATCH, HIGHEST_RATE, WEIGHT_DECAY, EMA_DECAY = 32, 2.5e-3, 0.02, 0.998
LOSS_SCALE = 100.0  # a mean square of mostly empty maps is tiny


@dataclass(frozen=True)
class Part:
    """One folder of photographs: the share of images held out, and how often its people are shown an epoch."""

    folder: str
    held_out: float
    repeats: int


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


def make_network(num_keypoints: int = len(KEYPOINTS)) -> SimpleBaseline:
    """The network, initialised as SimpleBaseline's published training does."""
    network = SimpleBaseline(DEPTH, num_keypoints, planes=PLANES, deconv_filters=DECONV_FILTERS)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.normal_(network.final_layer.weight, std=0.01)
    nn.init.zeros_(network.final_layer.bias)
    return network


def make_batch(
    people: list[Person], backgrounds: list[np.ndarray], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Crops (n, 3, H, W), target maps (n, 19, h, w) and their weights (n, 19) of one random variation each."""
    varied = [vary(person, SPEC, rng, backgrounds) for person in people]
    pixels = np.stack([crop for crop, _ in varied]).astype(np.float32)
    mean, std = (np.array(values, np.float32) for values in (SPEC.mean, SPEC.std))
    crops = ((pixels - mean) / std).transpose(0, 3, 1, 2)
    maps, weights = targets(np.stack([keypoints for _, keypoints in varied]), SPEC)
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


def train(people: list[Person], backgrounds: list[np.ndarray], *, epochs: int, seed: int, keep: Keep) -> None:
    """Train; `keep` gets the averaged network and the mean losses so far after every epoch."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = make_network().to(memory_format=torch.channels_last)
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
                crops, maps, weights = make_batch([people[i] for i in batch], backgrounds, rng)
                loss = loss_of(network(crops.contiguous(memory_format=torch.channels_last)), maps, weights)
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


def recipe(counts: dict[str, int], losses: list[float], run: dict[str, Any]) -> dict[str, Any]:
    """What the weights are and how they came about; `export.zoo` builds the network from it."""
    network = make_network(len(COCO17)).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *SPEC.input_hw))
    return {
        "name": NAME,
        "purpose": "for trying edgepose and for its tests; published networks are far more accurate",
        "depth": DEPTH,
        "planes": list(PLANES),
        "deconv_filters": DECONV_FILTERS,
        "input_hw": list(SPEC.input_hw),
        "heatmap_hw": list(SPEC.heatmap_hw),
        "decoder": SPEC.decoder,
        "blur_kernel": SPEC.blur_kernel,
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
            **run,
            "last_loss": round(losses[-1], 4),
            "torch": version("torch"),
        },
    }


def write_held_out(data: Path, out: Path) -> None:
    """Write OUT/held_out_<part>.json: the annotations of the images that training did not see, for `evaluate`."""
    for part in PARTS:
        if part.held_out == 0:
            continue
        annotations = json.loads((data / part.folder / "person_keypoints.json").read_text())
        kept = [image for image in annotations["images"] if is_held_out(image["file_name"], part.held_out)]
        ids = {image["id"] for image in kept}
        people = [entry for entry in annotations["annotations"] if entry["image_id"] in ids]
        write_json(out / f"held_out_{part.folder}.json", {**annotations, "images": kept, "annotations": people})


def measure(weights: Path, data: Path, held_out: Path) -> dict[str, dict[str, float | int | None]]:
    """Accuracy of shipped weights on the people of each part that training did not see.

    Takes the way a user takes: exports the FP32 ONNX and evaluates it with the annotated boxes and no flip test.

    Args:
        held_out: the folder of what `write_held_out` wrote.

    Returns:
        By part: how many people, and FIGURES, 0 to 1; without AP where no face is labelled.
    """
    model = Model(NAME, "", SPEC, lambda style: make_network(len(COCO17)), gflops=0, params=0)
    accuracy = {}
    with TemporaryDirectory() as folder:
        exported = export_model(model, Path(folder), weights=str(weights))
        for part in PARTS:
            if part.held_out == 0:
                continue
            annotations = held_out / f"held_out_{part.folder}.json"
            evaluation = evaluate([exported.fp32], data / part.folder / "images", annotations)
            figures = evaluation.engines[0].figures
            faces = any(image.keypoints[:, 0, 2].any() for image in read_annotations(annotations).images)
            names = FIGURES if faces else ("PCK@0.2",)
            accuracy[part.folder] = {
                "people": evaluation.conditions["people"],
                **{name: None if (value := figures[name]) is None else round(value, 3) for name in names},
            }
    return accuracy


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--epochs", type=click.IntRange(1), default=52, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, out: Path, epochs: int, seed: int, threads: int) -> None:
    """Train simplebaseline_tiny; write its weights, its recipe and the held-out people's annotations to OUT."""
    torch.set_num_threads(threads)
    write_held_out(data, out)
    start = time.monotonic()
    people, backgrounds, counts = read_people(data, np.random.default_rng(seed))
    click.echo(f"{len(people)} people an epoch, of {counts}")
    weights = out / f"{NAME}.pth"

    def keep(network: nn.Module, losses: list[float]) -> None:
        buffer = io.BytesIO()
        torch.save(shipped_state(network), buffer)
        write_bytes(weights, buffer.getvalue())
        minutes = round((time.monotonic() - start) / 60, 1)
        run = {"epochs": f"{len(losses)} of {epochs}", "seed": seed, "threads": threads, "minutes": minutes}
        write_json(out / f"{NAME}.json", {**recipe(counts, losses, run), "sha256": sha256_of(weights)})

    train(people, backgrounds, epochs=epochs, seed=seed, keep=keep)
    about: dict[str, Any] = json.loads((out / f"{NAME}.json").read_text())
    write_json(out / f"{NAME}.json", {**about, "held_out": measure(weights, data, out)})
    click.echo(f"wrote {weights} ({weights.stat().st_size / 2**20:.1f} MiB)")


if __name__ == "__main__":
    main()
