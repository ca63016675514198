"""Trains the person detector whose weights are in the package.

    python -m edgepose.export.training.train_detector --data DIR --out DIR

DIR has the folders that `train` wants; `coco` and `calib_coco` are photographs with all people boxed. Nothing
pretrained goes in. Where no photograph has an outline of a person, the Leeds pictures' people are cut out and pasted.
"""

from __future__ import annotations

import io
import time
import warnings
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepose.export.drawn.scene import Cutout, drawn_cutout
from edgepose.export.graph.interface import BATCH as BATCH_NAME
from edgepose.export.graph.interface import OPSET, normalize
from edgepose.export.graph.simplify import simplify
from edgepose.export.networks.person_detector import PersonDetector, boxes_of, cells
from edgepose.export.training.assignment import detection_loss
from edgepose.export.training.data import backgrounds_of, training_people
from edgepose.export.training.scenes import Material, cut_person_out, make_scene, read_photographs
from edgepose.export.training.train import Average
from edgepose.files import sha256_of, write_bytes, write_json
from edgepose.io.annotations import read_annotations
from edgepose.model.heads.detections import Detections
from edgepose.model.passport import Passport, write_passport
from edgepose.model.skeletons import NO_KEYPOINTS
from edgepose.model.spec import IMAGENET_MEAN, IMAGENET_STD, Input, ModelSpec

NAME = "person_tiny"
ARCHITECTURE: dict[str, Any] = {"widths": (16, 24, 48, 96, 128), "blocks": (1, 2, 2, 2), "neck": 64}
INPUT_HW = (416, 416)  # of the ONNX: people are larger in it than in training
LARGE_SIDE = 320  # of the scenes it learns from
SMALL_SIDE = 256  # of most batches until the rate falls: cheaper, and another scale
HELD_OUT = 0.45  # of the images of `coco`, by the hash of their names: the same ones as the pose networks'
BATCH, HIGHEST_RATE, WEIGHT_DECAY = 16, 2e-3, 0.02
WARM_UP, FALLING = 0.02, 0.35  # shares of the steps: the rate rises, stays, and falls to nothing
DRAWN = 150  # people
PEOPLE = {"lsp": (0.2, None), "calib_lspet": (0.0, 500)}  # held out; at most so many are cut out


@dataclass
class Run:
    """Everything that changes while the network learns; what a checkpoint holds."""

    network: nn.Module
    average: Average
    optimiser: torch.optim.Optimizer
    step: int = 0
    minutes: float = 0.0
    losses: list[float] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the checkpoint that `load` reads."""
        buffer = io.BytesIO()
        state = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "numbers": {"step": self.step, "average": self.average.steps, "minutes": self.minutes},
            "losses": self.losses,
        }
        torch.save(state, buffer)
        write_bytes(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.minutes = state["numbers"]["step"], state["numbers"]["minutes"]
        self.average.steps = state["numbers"]["average"]
        self.losses = state["losses"]


def read_material(data: Path, rng: np.random.Generator) -> tuple[Material, dict[str, int]]:
    """What scenes are made of, and how much of each there is."""
    coco = read_photographs(data / "coco/images", data / "coco/person_keypoints.json", HELD_OUT)
    more = read_photographs(data / "calib_coco/images", data / "calib_coco/person_boxes.json", 0.0)
    boxes = data / "calib_coco/person_boxes.json"
    backgrounds = backgrounds_of(data / "calib_coco/images", boxes, rng, count=300, side=160)
    cutouts: list[Cutout] = []
    poses: list[np.ndarray] = []
    for folder, (held_out, most) in PEOPLE.items():
        annotations = read_annotations(data / folder / "person_keypoints.json")
        people = training_people(annotations, data / folder / "images", held_out)
        for person in people[:most]:
            cutout = cut_person_out(person)
            if cutout is not None:
                cutouts.append(cutout)
            if (person.keypoints[5:, 2] > 0).all():
                poses.append(person.keypoints)
    counts = {"coco": len(coco), "calib_coco": len(more), "cut_out": len(cutouts), "backgrounds": len(backgrounds)}
    drawn = [drawn_cutout(poses[int(rng.integers(len(poses)))], backgrounds, rng) for _ in range(DRAWN)]
    return Material(coco + more, cutouts + drawn, backgrounds), {**counts, "drawn": DRAWN}


def make_batch(
    material: Material, side: int, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Pictures (count, 3, side, side), normalised; and of each its boxes (N, 4) and which of them teach neither way."""
    scenes = [make_scene(material, side, rng) for _ in range(count)]
    pixels = np.stack([picture for picture, _, _ in scenes]).astype(np.float32)
    pictures = ((pixels - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)).transpose(
        0, 3, 1, 2
    )
    return (
        torch.from_numpy(np.ascontiguousarray(pictures)),
        [torch.from_numpy(boxes) for _, boxes, _ in scenes],
        [torch.from_numpy(ignored) for _, _, ignored in scenes],
    )


def rate_at(share: float) -> float:
    """The learning rate when `share` of the steps are done."""
    return HIGHEST_RATE * min(1.0, share / WARM_UP + 0.01, max(1 - share, 0.002) / FALLING)


def train(run: Run, material: Material, steps: int, seed: int, out: Path, keep_every: int) -> None:
    """Train until `steps`; a checkpoint and the averaged weights are kept as it goes."""
    rng = np.random.default_rng((seed, run.step))
    grids = {side: cells((side, side)) for side in (SMALL_SIDE, LARGE_SIDE)}
    total, before, start = 0.0, run.minutes, time.monotonic()
    run.network.train()
    while run.step < steps:
        share = run.step / steps
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(share)
        side = SMALL_SIDE if share < 1 - FALLING and rng.random() < 0.6 else LARGE_SIDE
        pictures, boxes, ignored = make_batch(material, side, BATCH, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits, distances = run.network.raw(pictures.contiguous(memory_format=torch.channels_last))
        centers, strides = grids[side]
        predicted = boxes_of(distances.float(), centers, strides)
        loss = detection_loss(logits.float(), predicted, centers, strides, boxes, ignored)
        run.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.network.parameters(), 10.0)
        run.optimiser.step()
        run.average.update(run.network)
        run.step += 1
        total += loss.item()
        if run.step % keep_every == 0 or run.step == steps:
            run.losses.append(round(total / keep_every, 4))
            run.minutes, total = round(before + (time.monotonic() - start) / 60, 1), 0.0
            click.echo(f"step {run.step} of {steps}: loss {run.losses[-1]}, {run.minutes} min")
            run.save(out / "checkpoint.pth")
            keep(run, out, steps, seed)


def keep(run: Run, out: Path, steps: int, seed: int) -> None:
    """Write the averaged weights as float16, and how they came about."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in run.average.network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    weights = out / f"{NAME}.pth"
    write_bytes(weights, buffer.getvalue())
    about = {
        "name": NAME,
        "purpose": "for trying edgepose; published detectors are far more accurate",
        **{key: list(value) if isinstance(value, tuple) else value for key, value in ARCHITECTURE.items()},
        "input_hw": list(INPUT_HW),
        "params": sum(parameter.numel() for parameter in run.network.parameters()),
        "training": {
            "optimiser": f"AdamW, rate {HIGHEST_RATE} falling over the last {FALLING:.0%}, weight decay {WEIGHT_DECAY}",
            "batch": BATCH,
            "steps": f"{run.step} of {steps}",
            "seed": seed,
            "minutes": run.minutes,
            "last_loss": run.losses[-1],
            "torch": version("torch"),
        },
        "held_out_share": {"coco": HELD_OUT},
        "sha256": sha256_of(weights),
    }
    write_json(out / f"{NAME}.json", about)


def spec() -> ModelSpec:
    """How the detector is fed and read."""
    return ModelSpec(
        NAME, Input(INPUT_HW, resize="letterbox"), Detections("boxes", 1, min_score=0.01, nms_iou=0.6), NO_KEYPOINTS
    )


def write_onnx(weights: Path, out: Path) -> Path:
    """Write the ONNX that the package holds, and its passport: FP32 arithmetic on weights stored as float16."""
    network = PersonDetector(**ARCHITECTURE)
    state = torch.load(weights, weights_only=True)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    network.eval()
    buffer = io.BytesIO()
    names = list(spec().outputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice to use its other exporter, as in to_onnx
        torch.onnx.export(
            Ordered(network),
            (torch.zeros(2, 3, *INPUT_HW),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=names,
            dynamic_axes={name: {0: BATCH_NAME} for name in ("images", *names)},
        )
    model = normalize(simplify(onnx.load_from_string(buffer.getvalue())))
    halve_weights(model)
    path = out / f"{NAME}.onnx"
    write_bytes(path, model.SerializeToString())
    about = f"{NAME}.pth of this project's training"
    write_passport(path, Passport(spec(), "fp32", sha256_of(path), about, sha256_of(weights)))
    return path


class Ordered(nn.Module):
    """The detector with its outputs in the head's order: boxes, scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, H, W) -> boxes (n, A, 4), scores (n, A, 1)."""
        scores, boxes = self.network(pictures)
        return boxes, scores


def halve_weights(model: onnx.ModelProto, least: int = 64) -> None:
    """Store each weight of at least so many values as float16, with a Cast to float32 behind it, in place."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < least or np.abs(values).max() > 60000:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], f"Cast_{name}", to=TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--steps", type=click.IntRange(1), default=5000, show_default=True)
@click.option("--keep-every", type=click.IntRange(1), default=100, show_default=True, help="Steps between checkpoints.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def main(data: Path, out: Path, steps: int, keep_every: int, seed: int, threads: int) -> None:
    """Train the detector; go on where OUT/checkpoint.pth is. Writes OUT/person_tiny.pth and .json."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    material, counts = read_material(data, np.random.default_rng(seed))
    click.echo(f"{counts}")
    network = PersonDetector(**ARCHITECTURE).to(memory_format=torch.channels_last)
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    run = Run(network, Average(network), torch.optim.AdamW(groups, lr=HIGHEST_RATE))
    if (out / "checkpoint.pth").exists():
        run.load(out / "checkpoint.pth")
    train(run, material, steps, seed, out, keep_every)
    write_onnx(out / f"{NAME}.pth", out)


if __name__ == "__main__":
    main()
