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

from edgepose.backends import Backend, load_backend
from edgepose.calibration.budget import LABELLED, Budget, FigureJudge, Judge, Loss, ShiftJudge
from edgepose.calibration.costs import Device, Measured, NodeCost, int8_share, node_costs, predicted_us
from edgepose.calibration.dataset import count_crops, crops_of
from edgepose.calibration.mixes import Ground, mixed, tensors_of_mixes
from edgepose.calibration.profiles import Profile, measured
from edgepose.calibration.qdq import all_layers
from edgepose.calibration.ranges import ranges_by_methods
from edgepose.calibration.results import CalibrationFiles
from edgepose.calibration.scene import Scene
from edgepose.calibration.search import Found, Mix, Trial, leaving_order, search
from edgepose.calibration.sensitivity import layer_noises
from edgepose.errors import InputError
from edgepose.files import parse_json, read_input, sha256_of, temporary_folder, write_json
from edgepose.io.annotations import Annotations, read_annotations
from edgepose.model.passport import write_passport

NOISE_CROPS = 8  # held-out crops that order the layers


@dataclass(frozen=True)
class Chosen:
    """The layers for INT8 and the ground, whose ranges may be another method's; what the search was for, and found.

    Attributes:
        confirmed: what the chosen mix loses on people who did not choose; None where the search was interrupted.
        device: by which times were predicted; None where multiply-adds counted.
    """

    ground: Ground
    layers: tuple[str, ...]
    method: str
    found: Found
    budget: Budget
    confirmed: Loss | None
    device: Device | Measured | None = None

    @property
    def done(self) -> bool:
        """Whether the mix is within the budget both on those who chose it and on those who confirm it."""
        return self.found.met and self.confirmed is not None and self.confirmed.value <= self.budget.value

    def figures(self) -> dict[str, float]:
        """What the passport keeps."""
        losses = {"chosen": self.found.best.loss, "confirmed": self.confirmed}
        unit = self.budget.unit
        return {f"budget_{unit}": self.budget.value} | {
            f"{name}_{key}": value
            for name, loss in losses.items()
            if loss is not None
            for key, value in ((f"loss_{unit}", loss.value), ("standard_error", loss.error))
        }

    def summary(self) -> str:
        """Both figures, for people."""
        unit, chosen = _unit(self.budget), self.found.best.loss
        said = f"the mix loses {chosen.value:.4g}{unit} ± {chosen.error:.2g} on the people who chose it"
        if self.confirmed is None:
            return f"{said}; nobody has confirmed that"
        agree = "confirm that" if self.found.met else "are within the budget"
        if self.confirmed.value > self.budget.value:
            agree = "are over the budget"
        return f"{said}; others {agree}: {self.confirmed.value:.4g}{unit} ± {self.confirmed.error:.2g}"


@dataclass(frozen=True)
class Wanted:
    """What a search is for.

    Attributes:
        device: whose predicted time is kept low; None: as many multiply-adds in INT8 as possible.
        profiles: of the plans of the FP16 and the INT8 file, whose layer times take the place of predictions.
        annotations, folder: COCO key points and their images, for a budget of AP or PCK.
        methods: of ranges, that compete.
        exclude: whether single layers may stay in FP16.
        say: is told a line at each step.
    """

    budget: Budget
    device: Device | None
    annotations: Path | None
    folder: Path | None
    methods: Sequence[str]
    say: Callable[[str], None]
    exclude: bool = True
    profiles: tuple[Profile, Profile] | None = None


def search_path(files: CalibrationFiles) -> Path:
    """m.onnx -> m.search.json beside the table: what was measured, so that a search goes on where it was stopped."""
    return files.table.parent / f"{files.model.stem}.search.json"


def choose_layers(scene: Scene, wanted: Wanted) -> Chosen:
    """Search for the cheapest mix within the budget; go on from what an earlier search of the same measured.

    Raises:
        CalibrationError: nothing can be compared.
        InputError: the annotations cannot be used, or profiles are of another network.
    """
    annotations = _annotations_for(wanted)
    costs, device = node_costs(scene.ground.model), _times_of(scene, wanted)
    made_from = {
        **{key: value for key, value in scene.table.made_from.items() if key != "method"},
        "unit": wanted.budget.unit,
        "definition": 3,  # of a loss: raise it when what is measured changes
        "annotations_sha256": annotations.sha256 if annotations else "",
        "openvino": version("openvino"),
    }
    memory = _Memory(search_path(scene.files), made_from)
    layers = tuple(all_layers(scene.ground.model))
    grounds = _grounds(scene, layers, wanted.methods, memory)
    with closing(load_backend(scene.files.model, backend="openvino")) as reference:
        judges = _judges(scene, wanted, annotations, reference)

    def loss_of(mix: Mix, people: str) -> Loss:
        loss = memory.loss(mix, people)
        if loss is None:
            loss = _measured(grounds[mix.method], mix.layers, scene, judges[people])
            memory.keep_loss(mix, people, loss)
        return loss

    def measure(mix: Mix) -> Trial:
        cost = _cost(costs, mix.layers, device)
        return Trial(mix, loss_of(mix, "choosing"), cost, int8_share(costs, mix.layers))

    def order(method: str) -> list[str]:
        noise = memory.noise(method)
        if noise is None:
            wanted.say("finding out which layers make most noise")
            crops = list(islice(crops_of(scene.people.held_out, scene.passport.spec), NOISE_CROPS))
            noise = layer_noises(grounds[method], crops, scene.passport.spec, scene.watch)
            memory.keep_noise(method, noise)
        return leaving_order(noise, _savings(costs, layers, device))

    def say(trial: Trial, met: bool) -> None:
        wanted.say(describe(trial, wanted.budget, met, len(layers)))

    found = search(
        layers, scene.ground.layers, wanted.methods, order, measure, wanted.budget, exclude=wanted.exclude, say=say
    )
    best = found.best.mix
    kept = tuple(name for name in layers if name in best.layers)
    confirmed = None if found.interrupted else loss_of(best, "confirming")
    return Chosen(grounds[best.method], kept, best.method, found, wanted.budget, confirmed, device)


def _times_of(scene: Scene, wanted: Wanted) -> Device | Measured | None:
    if wanted.profiles is None or wanted.device is None:
        return wanted.device
    return measured(scene.ground.model, scene.ground.layers, wanted.device, wanted.profiles)


def _judges(
    scene: Scene, wanted: Wanted, annotations: Annotations | None, reference: Backend
) -> dict[str, ShiftJudge] | dict[str, FigureJudge]:
    """Who chooses and who confirms: people kept for it, and of annotated images in no part one in two."""
    people, unit = scene.people, wanted.budget.unit
    if annotations is None:
        return {
            "choosing": ShiftJudge(unit, reference, people.held_out),
            "confirming": ShiftJudge(unit, reference, people.confirming),
        }
    assert wanted.folder is not None
    seen = frozenset(image.sha256 for image in people.fitting)
    return {
        "choosing": FigureJudge(
            unit, reference, annotations, wanted.folder, seen, lambda digest: not people.confirms(digest)
        ),
        "confirming": FigureJudge(unit, reference, annotations, wanted.folder, seen, people.confirms),
    }


def describe(trial: Trial, budget: Budget, met: bool, layers: int) -> str:
    """A trial in a line."""
    unit = _unit(budget)
    share = "" if trial.int8_share is None else f" ({trial.int8_share:.1%} of the multiply-adds)"
    time = "" if trial.predicted_us == 0 else f", predicted {trial.predicted_us:.0f} us"
    return (
        f"{len(trial.mix.layers)} of {layers} layers in INT8{share}, "
        f"{trial.mix.method}: loses {trial.loss.value:.4g}{unit}, with 95 % certainty at most "
        f"{trial.loss.upper:.4g}{time}: "
        f"{'within' if met else 'over'} {budget}"
    )


def _unit(budget: Budget) -> str:
    return f" {budget.unit}" if budget.unit not in LABELLED else f" % {budget.unit.upper()}"


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


def _cost(costs: Sequence[NodeCost], layers: Collection[str], device: Device | Measured | None) -> float:
    return 0.0 if device is None else predicted_us(costs, layers, device)


def _savings(costs: Sequence[NodeCost], layers: Sequence[str], device: Device | Measured | None) -> dict[str, float]:
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

    def loss(self, mix: Mix, people: str) -> Loss | None:
        for entry in self.data["losses"]:
            if entry["people"] == people and entry["method"] == mix.method and set(entry["layers"]) == mix.layers:
                return Loss(entry["value"], np.array(entry["parts"]))
        return None

    def keep_loss(self, mix: Mix, people: str, loss: Loss) -> None:
        self.data["losses"].append(
            {
                "people": people,
                "method": mix.method,
                "layers": sorted(mix.layers),
                "value": loss.value,
                "parts": [float(part) for part in loss.parts],
            }
        )
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.data)
