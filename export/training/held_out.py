"""The people that training does not see: their annotations, and how well trained weights do on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from edgepose.evaluation.evaluate import evaluate
from edgepose.export.pipeline import export_model
from edgepose.export.training.data import is_held_out
from edgepose.export.training.trainees import Trainee
from edgepose.export.zoo.model import Model
from edgepose.files import write_json
from edgepose.io.annotations import read_annotations
from edgepose.model.skeletons import COCO17

FIGURES = ("AP", "AP50", "PCK@0.2")  # noted in the recipe


@dataclass(frozen=True)
class Part:
    """One folder of photographs: the share of images held out, and how often its people are shown an epoch."""

    folder: str
    held_out: float
    repeats: int


def write_held_out(parts: Sequence[Part], data: Path, out: Path) -> None:
    """Write OUT/held_out_<part>.json: the annotations of the images that training did not see, for `evaluate`."""
    for part in parts:
        if part.held_out == 0:
            continue
        annotations = json.loads((data / part.folder / "person_keypoints.json").read_text())
        kept = [image for image in annotations["images"] if is_held_out(image["file_name"], part.held_out)]
        ids = {image["id"] for image in kept}
        people = [entry for entry in annotations["annotations"] if entry["image_id"] in ids]
        write_json(out / f"held_out_{part.folder}.json", {**annotations, "images": kept, "annotations": people})


def measure(
    trainee: Trainee, weights: Path, parts: Sequence[Part], data: Path, held_out: Path
) -> dict[str, dict[str, float | int | None]]:
    """Accuracy of shipped weights on the people of each part that training did not see.

    Takes the way a user takes: exports the FP32 ONNX and evaluates it with the annotated boxes and no flip test.

    Args:
        held_out: the folder of what `write_held_out` wrote.

    Returns:
        By part: how many people, and FIGURES, 0 to 1; without AP where no face is labelled.
    """
    spec = trainee.spec
    model = Model(spec.name, "", spec, lambda style: trainee.make(len(COCO17)), gflops=0, params=0)
    accuracy = {}
    with TemporaryDirectory() as folder:
        exported = export_model(model, Path(folder), weights=str(weights))
        for part in parts:
            if part.held_out == 0:
                continue
            annotations = held_out / f"held_out_{part.folder}.json"
            evaluation = evaluate([exported.fp32], data / part.folder / "images", annotations)
            figures = evaluation.models[0].figures
            faces = any(image.keypoints[:, 0, 2].any() for image in read_annotations(annotations).images)
            names = FIGURES if faces else ("PCK@0.2",)
            accuracy[part.folder] = {
                "people": evaluation.conditions["people"],
                **{name: None if (value := figures[name]) is None else round(value, 3) for name in names},
            }
    return accuracy
