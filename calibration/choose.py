"""Choose the layers for INT8 within a budget: makes mixes as files, measures them, remembers what was measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.backends import load_backend
from edgepose.calibration.budget import LABELLED, Budget, FigureJudge, Judge, Loss, ShiftJudge
from edgepose.calibration.costs import Device, NodeCost, int8_share, node_costs, predicted_us
from edgepose.calibration.dataset import count_crops, crops_of
from edgepose.calibration.mixes import Ground, mixed, tensors_of_mixes
from edgepose.calibration.qdq import all_layers
from edgepose.calibration.ranges import ranges_by_methods
from edgepose.calibration.results import CalibrationFiles
from edgepose.calibration.scene import Scene
from edgepose.calibration.search import Found, Mix, Trial, leaving_order, search
from edgepose.calibration.sensitivity import layer_noises
from edgepose.errors import CalibrationError, InputError
from edgepose.files import parse_json, read_input, sha256_of, temporary_folder, write_json
from edgepose.io.annotations import Annotations, read_annotations
from edgepose.model.passport import write_passport

NOISE_CROPS = 8  # held-out crops that order the layers


@dataclass(frozen=True)
class Chosen:
    """The layers for INT8 and the ground, whose ranges may be another method's; what the search was for, and found."""

    ground: Ground
    layers: tuple[str, ...]
    method: str
    found: Found
    budget: Budget


@dataclass(frozen=True)
class Wanted:
    """What a search is for.

    Attributes:
        device: whose predicted time is kept low; None: as many multiply-adds in INT8 as possible.
        annotations, folder: COCO key points and their images, for a budget of AP or PCK.
        methods: of ranges, that compete.
        say: is told a line at each step.
    """

    budget: Budget
    device: Device | None
    annotations: Path | None
    folder: Path | None
    methods: Sequence[str]
    say: Callable[[str], None]


def search_path(files: CalibrationFiles) -> Path:
    """m.onnx -> m.search.json beside the table: what was measured, so that a search goes on where it was stopped."""
    return files.table.parent / f"{files.model.stem}.search.json"


def choose_layers(scene: Scene, wanted: Wanted) -> Chosen:
    """Search for the cheapest mix within the budget; go on from what an earlier search of the same measured.

    Raises:
        CalibrationError: nobody is held out, or nothing can be compared.
        InputError: the annotations cannot be used.
    """
    if scene.people.held_out == scene.people.fitting:
        raise CalibrationError(
            f"a budget is measured on people held out from calibration, and there is one image only: give "
            f"{scene.files.model.name} more images"
        )
    annotations = _annotations_for(wanted)
    made_from = {
        **{key: value for key, value in scene.table.made_from.items() if key != "method"},
        "unit": wanted.budget.unit,
        "annotations_sha256": annotations.sha256 if annotations else "",
        "openvino": version("openvino"),
    }
    memory = _Memory(search_path(scene.files), made_from)
    layers = tuple(all_layers(scene.ground.model))
    grounds = _grounds(scene, layers, wanted.methods, memory)
    costs = node_costs(scene.ground.model)
    with closing(load_backend(scene.files.model, backend="openvino")) as reference:
        judge: Judge
        if annotations is None:
            judge = ShiftJudge(wanted.budget.unit, reference, scene.people.held_out)
        else:
            seen = frozenset(image.sha256 for image in scene.people.fitting)
            assert wanted.folder is not None
            judge = FigureJudge(wanted.budget.unit, reference, annotations, wanted.folder, seen)

    def measure(mix: Mix) -> Trial:
        loss = memory.loss(mix)
        if loss is None:
            loss = _measured(grounds[mix.method], mix.layers, scene, judge)
            memory.keep_loss(mix, loss)
        return Trial(mix, loss, _cost(costs, mix.layers, wanted.device), int8_share(costs, mix.layers))

    def order(method: str) -> list[str]:
        noise = memory.noise(method)
        if noise is None:
            wanted.say("finding out which layers make most noise")
            crops = list(islice(crops_of(scene.people.held_out, scene.passport.spec), NOISE_CROPS))
            noise = layer_noises(grounds[method], crops, scene.passport.spec, scene.watch)
            memory.keep_noise(method, noise)
        return leaving_order(noise, _savings(costs, layers, wanted.device))

    def say(trial: Trial, met: bool) -> None:
        wanted.say(describe(trial, wanted.budget, met, len(layers)))

    found = search(layers, scene.ground.layers, wanted.methods, order, measure, wanted.budget, say=say)
    best = found.best.mix
    kept = tuple(name for name in layers if name in best.layers)
    return Chosen(grounds[best.method], kept, best.method, found, wanted.budget)


def describe(trial: Trial, budget: Budget, met: bool, layers: int) -> str:
    """A trial in a line."""
    unit = f" {budget.unit}" if budget.unit not in LABELLED else f" % {budget.unit.upper()}"
    share = "" if trial.int8_share is None else f" ({trial.int8_share:.1%} of the multiply-adds)"
    time = "" if trial.predicted_us == 0 else f", predicted {trial.predicted_us:.0f} us"
    return (
        f"{len(trial.mix.layers)} of {layers} layers in INT8{share}, "
        f"{trial.mix.method}: loses {trial.loss.value:.4g}{unit} (standard error {trial.loss.error:.2g}){time}: "
        f"{'within' if met else 'over'} {budget}"
    )


def _annotations_for(wanted: Wanted) -> Annotations | None:
    if wanted.budget.unit not in LABELLED:
        return None
    if wanted.annotations is None or wanted.folder is None:
        raise InputError(f"a budget of {wanted.budget} is measured on annotated people: give --annotations FILE")
    return read_annotations(wanted.annotations)


def _grounds(scene: Scene, layers: tuple[str, ...], methods: Sequence[str], memory: _Memory) -> dict[str, Ground]:
    """The ground of each method, with ranges for all of `layers`; those that are not known are found in one pass."""
    missing = [method for method in methods if method not in memory.ranges]
    if missing:
        model, fitting, spec = scene.ground.model, scene.people.fitting, scene.passport.spec
        crops = scene.watch("finding ranges", crops_of(fitting, spec), count_crops(fitting))
        memory.keep_ranges(ranges_by_methods(model, crops, tensors_of_mixes(model, layers), missing))
    return {method: replace(scene.ground, layers=layers, ranges=memory.ranges[method]) for method in methods}


def _measured(ground: Ground, layers: Collection[str], scene: Scene, judge: Judge) -> Loss:
    """Of the very file that would be shipped, computed exactly."""
    with temporary_folder(scene.files.int8.parent) as temporary:
        path = temporary / "mix.onnx"
        path.write_bytes(mixed(ground, layers).SerializeToString())
        write_passport(path, replace(scene.passport, precision="int8", sha256=sha256_of(path)))
        with closing(load_backend(path, backend="openvino", exact=True)) as backend:
            return judge.loss(backend)


def _cost(costs: Sequence[NodeCost], layers: Collection[str], device: Device | None) -> float:
    return 0.0 if device is None else predicted_us(costs, layers, device)


def _savings(costs: Sequence[NodeCost], layers: Sequence[str], device: Device | None) -> dict[str, float]:
    """What INT8 in each layer saves where all others have it: microseconds, or multiply-adds for no device."""
    if device is None:
        macs = {cost.name: float(cost.macs) for cost in costs}
        return {name: macs[name] for name in layers}
    whole = predicted_us(costs, layers, device)
    return {name: predicted_us(costs, [other for other in layers if other != name], device) - whole for name in layers}


class _Memory:
    """The search's file: ranges, noise and losses by mix. It counts for nothing where it was made from other things."""

    def __init__(self, path: Path, made_from: dict[str, Any]) -> None:
        self.path = path
        empty: dict[str, Any] = {"made_from": made_from, "ranges": {}, "noise": {}, "losses": []}
        try:
            data = parse_json(read_input(path))
            fits = data["made_from"] == made_from and set(data) == set(empty)
        except (InputError, ValueError, TypeError, KeyError):  # none, or a damaged one: it is measured anew
            fits = False
        self.data = data if fits else empty

    @property
    def ranges(self) -> dict[str, dict[str, float]]:
        return dict(self.data["ranges"])

    def keep_ranges(self, ranges: dict[str, dict[str, float]]) -> None:
        self.data["ranges"] |= ranges
        self._write()

    def noise(self, method: str) -> dict[str, float] | None:
        found: dict[str, float] | None = self.data["noise"].get(method)
        return found

    def keep_noise(self, method: str, noise: dict[str, float]) -> None:
        self.data["noise"][method] = noise
        self._write()

    def loss(self, mix: Mix) -> Loss | None:
        for entry in self.data["losses"]:
            if entry["method"] == mix.method and set(entry["layers"]) == mix.layers:
                return Loss(entry["value"], np.array(entry["parts"]))
        return None

    def keep_loss(self, mix: Mix, loss: Loss) -> None:
        self.data["losses"].append(
            {
                "method": mix.method,
                "layers": sorted(mix.layers),
                "value": loss.value,
                "parts": [float(part) for part in loss.parts],
            }
        )
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.data)
