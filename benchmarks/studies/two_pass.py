"""What the second pass of a two-pass network brings: errors after the first pass and after the second.

    python -m edgepose.benchmarks.studies.two_pass --engine m.onnx --engine m.int8.onnx \\
        --images DIR --annotations COCO.json

The same people, boxes (the annotated ones) and first pass for both. An error's unit is the person's torso, from the
left shoulder to the right hip, as in PCK; people without a labelled torso and key points without a label do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.estimate.two_pass import find_keypoints
from edgepose.evaluation.evaluate import annotated_boxes, image_path
from edgepose.io.annotations import read_annotations
from edgepose.io.images import read_image
from edgepose.stages.geometry import Regions, usable_boxes

TORSO = ("left_shoulder", "right_hip")
THRESHOLDS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Errors:
    """Distances of M key points to the truth after one pass: image px, and shares of the person's torso."""

    px: np.ndarray
    torsos: np.ndarray

    def figures(self) -> list[str]:
        """PCK at THRESHOLDS, then mean and median error in px, then the mean in torsos."""
        pck = [f"{(self.torsos <= threshold).mean():.3f}" for threshold in THRESHOLDS]
        return [*pck, f"{self.px.mean():.2f}", f"{np.median(self.px):.2f}", f"{self.torsos.mean():.3f}"]


def measure(
    backend: Backend, images: Path, annotations: Path, *, flip_test: bool = False
) -> tuple[int, tuple[Errors, Errors]]:
    """The number of people, and the errors on their labelled key points after the first and the second pass.

    Raises:
        InputError: an image or the annotations cannot be read.
    """
    truth = read_annotations(annotations)
    names = backend.spec.skeleton.keypoints
    pairs = [(names.index(name), i) for i, name in enumerate(truth.keypoint_names) if name in names]
    ours, theirs = np.array(pairs).T
    ends = [truth.keypoint_names.index(name) for name in TORSO]
    distances: list[list[np.ndarray]] = [[], []]
    torsos: list[np.ndarray] = []
    people = 0
    for entry in truth.images:
        image = read_image(image_path(images, entry.file_name))
        boxes = annotated_boxes(entry, image.shape[:2])
        counted = entry.posed & usable_boxes(boxes) & (entry.keypoints[:, ends, 2] > 0).all(axis=1)
        regions = Regions.around(boxes[counted], backend.spec)
        true = entry.keypoints[counted]
        labelled = true[:, theirs, 2] > 0
        torso = np.linalg.norm(true[:, ends[0], :2] - true[:, ends[1], :2], axis=-1)
        torsos.append(np.repeat(torso, labelled.sum(axis=1)))
        first = backend.keypoints(image, regions, flip_test=flip_test)
        second = find_keypoints(backend, image, regions, flip_test=flip_test)
        for errors, found in zip(distances, (first, second), strict=True):
            errors.append(np.linalg.norm(found[:, ours, :2] - true[:, theirs, :2], axis=-1)[labelled])
        people += len(true)
    unit = np.concatenate(torsos)
    after_first, after_second = (Errors(px := np.concatenate(errors), px / unit) for errors in distances)
    return people, (after_first, after_second)


@click.command()
@click.option("--engine", "models", type=click.Path(path_type=Path), multiple=True, required=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--annotations", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--flip-test", is_flag=True, help="Average with the mirrored crop in both passes.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def main(models: Sequence[Path], images: Path, annotations: Path, flip_test: bool, threads: int | None) -> None:
    """Print a Markdown table of both passes' errors."""
    heads = [*(f"PCK@{threshold}" for threshold in THRESHOLDS), "mean px", "median px", "mean torsos"]
    print("| file | pass | people | key points |", " | ".join(heads), "|")
    print("|" + " --- |" * (4 + len(heads)))
    for model in models:
        with closing(load_backend(model, threads=threads, exact=True)) as backend:
            if backend.spec.heatmaps.refine is None:
                raise click.UsageError(f"{model} takes one pass; give a two-pass network's file")
            people, passes = measure(backend, images, annotations, flip_test=flip_test)
        for name, errors in zip(("first", "second"), passes, strict=True):
            print(f"| {model.name} | {name} | {people} | {len(errors.px)} |", " | ".join(errors.figures()), "|")


if __name__ == "__main__":
    main()
