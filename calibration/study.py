"""The study of a network's sensitivity as a file: NAME.sensitivity.json, measured once for the same contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from edgepose.calibration.costs import Device, node_costs, time_shares
from edgepose.calibration.dataset import crops_of
from edgepose.calibration.effects import CONFIDENT, Effect
from edgepose.calibration.results import CalibrationFiles
from edgepose.calibration.scene import Scene
from edgepose.calibration.seen import TensorSeen
from edgepose.calibration.sensitivity import Sensitivities, Sensitivity, sensitivities
from edgepose.errors import InputError
from edgepose.files import parse_json, read_input, write_json
from edgepose.io.columns import aligned

FORMAT = 2
WORST = 20  # layers and tensors that are printed


@dataclass(frozen=True)
class Study:
    """What was found out, and where it stands.

    Attributes:
        path: the JSON file.
        reused: True if an earlier run had measured the same.
        macs_shares, time_shares: of each layer: of the multiply-adds, and of the time predicted for a device.
        unreadable: one line for each image that could not be read.
    """

    path: Path
    reused: bool
    found: Sensitivities
    macs_shares: Mapping[str, float]
    time_shares: Mapping[str, float]
    unreadable: tuple[str, ...]

    def summary(self) -> str:
        """Tables of the layers and tensors that make most noise, for people."""
        whole, layers, tensors = self.found.whole, self.found.layers, self.found.tensors
        head = ["INT8 alone: px", "SQNR", "all but it: px", "SQNR"]
        rows = [["layer", *head, "macs", "time"]]
        rows += [
            [name, *_cells(layers[name]), f"{self.macs_shares[name]:.1%}", f"{self.time_shares[name]:.1%}"]
            for name in _loudest(layers)
        ]
        pairs = [["tensor", *head, "range", "largest", "clipped", "own SQNR"]]
        for name in _loudest(tensors):
            seen = self.found.seen[name]
            own = Effect(0.0, seen.noise).sqnr_db
            pairs.append(
                [
                    name,
                    *_cells(tensors[name]),
                    *(f"{seen.range:.4g}", f"{seen.largest:.4g}", f"{seen.clipped:.3%}", f"{own:.1f} dB"),
                ]
            )
        nothing = f"no key point of FP32 has a score over {CONFIDENT}: shifts are not known, look at the SQNR"
        return "\n".join(
            [
                *([nothing] if self.found.keypoints == 0 else []),
                f"all {len(layers)} layers in INT8, {self.found.crops} crops: key points move {whole.shift_px:.3f} px "
                f"of the input on average, SQNR {whole.sqnr_db:.1f} dB; what makes most noise comes first",
                "",
                *aligned(rows, range(1, len(rows[0]))),
                "",
                *aligned(pairs, range(1, len(pairs[0]))),
                "",
                f"tensors were tried on {self.found.tensor_crops} of the crops; {self.path} has all {len(layers)} "
                f"layers and {len(tensors)} tensors, with histograms",
            ]
        )


def _loudest(found: Mapping[str, Sensitivity]) -> list[str]:
    return sorted(found, key=lambda name: -found[name].only.noise)[:WORST]


def _cells(found: Sensitivity) -> list[str]:
    return [
        text
        for effect in (found.only, found.all_but)
        for text in (f"{effect.shift_px:.3f}", f"{effect.sqnr_db:.1f} dB")
    ]


def study_path(files: CalibrationFiles) -> Path:
    """m.onnx -> m.sensitivity.json beside the table."""
    return files.table.parent / f"{files.model.stem}.sensitivity.json"


def study(scene: Scene, count: int, device: Device) -> Study:
    """Measure on at most `count` crops, held-out people first, or take what an earlier run measured on as many or more.

    Raises:
        OSError: the file cannot be written.
    """
    spec, path = scene.passport.spec, study_path(scene.files)
    made_from = scene.table.made_from
    found = _known(path, made_from, count)
    reused = found is not None
    costs, layers = node_costs(scene.ground.model), scene.ground.layers
    if found is None:
        held_out, fitting = scene.people.held_out, scene.people.fitting
        people = held_out if held_out == fitting else (*held_out, *fitting)
        crops = list(islice(crops_of(people, spec), count))
        found = sensitivities(scene.ground, crops, spec, scene.watch)
    total = max(sum(cost.macs for cost in costs), 1)
    macs = {cost.name: cost.macs / total for cost in costs if cost.name in layers}
    times = time_shares(costs, layers, device)
    asked = max(count, found.crops)
    write_json(path, {**to_json(found, macs, times, device), "made_from": made_from, "asked": asked})
    return Study(path, reused, found, macs, times, scene.people.unreadable)


def to_json(
    found: Sensitivities,
    macs: Mapping[str, float],
    times: Mapping[str, float],
    device: Device,
) -> dict[str, Any]:
    """Plain JSON values: layers and tensors in the network's order."""
    return {
        "edgepose_sensitivity": FORMAT,
        "device": asdict(device),
        "crops": found.crops,
        "tensor_crops": found.tensor_crops,
        "keypoints": found.keypoints,
        "whole": asdict(found.whole),
        "layers": [
            {
                "name": name,
                "reads": found.reads[name],
                **asdict(each),
                "macs_share": macs[name],
                "time_share": times[name],
            }
            for name, each in found.layers.items()
        ],
        "tensors": [{"name": name, **asdict(each), **asdict(found.seen[name])} for name, each in found.tensors.items()],
    }


def _known(path: Path, made_from: Mapping[str, Any], count: int) -> Sensitivities | None:
    """What stands in the file, if it was made from this, with as many crops; None if not, or if it is damaged."""
    try:
        data = parse_json(read_input(path))
        if data["edgepose_sensitivity"] != FORMAT or data["made_from"] != made_from or data["asked"] < count:
            return None
        return Sensitivities(
            Effect(**data["whole"]),
            {each["name"]: _sensitivity(each) for each in data["layers"]},
            {each["name"]: each["reads"] for each in data["layers"]},
            {each["name"]: _sensitivity(each) for each in data["tensors"]},
            {each["name"]: _seen(each) for each in data["tensors"]},
            data["crops"],
            data["tensor_crops"],
            data["keypoints"],
        )
    except (InputError, ValueError, TypeError, KeyError):
        return None


def _sensitivity(data: Mapping[str, Any]) -> Sensitivity:
    return Sensitivity(Effect(**data["only"]), Effect(**data["all_but"]))


def _seen(data: Mapping[str, Any]) -> TensorSeen:
    kept: Sequence[str] = ("range", "largest", "clipped", "noise", "top")
    return TensorSeen(**{name: data[name] for name in kept}, histogram=tuple(data["histogram"]))
