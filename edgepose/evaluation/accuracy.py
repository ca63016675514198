"""The figures of networks that see one person's crop at a time: in words, tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepose.evaluation.figures import FIGURES
from edgepose.evaluation.report import Measured, images_left_out, versions
from edgepose.io.people import left_out

SHIFTS = (
    ("mean", "shift mean px", "{:.3f}"),
    ("p95", "shift p95 px", "{:.2f}"),
    ("share_over_1", "moved over 1 px", "{:.1%}"),
)
DIGITS = {"EPE px": 2, "NME eyes": 4, "NME box": 4}  # others have three


@dataclass(frozen=True)
class ModelAccuracy:
    """One model file's figures.

    Attributes:
        model, sha256: the file, and its hash when it was loaded.
        precision, backend, arithmetic: what it is, what ran it, and what that computed in.
        random_weights: True: the figures mean nothing.
        figures: each of figures.FIGURES, 0 to 1 but for "EPE px" and NME; None where it cannot be computed.
        missing: which cannot, and why.
        shift: of its key points from the first file's, px of the grid; None for the first and for another recipe's.
    """

    model: Path
    sha256: str
    precision: str
    backend: str
    arithmetic: str
    random_weights: bool
    figures: dict[str, float | None]
    missing: list[str]
    shift: dict[str, float | int] | None


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured: a `Report`.

    Attributes:
        conditions: annotations (name and hash), images, people, boxes, flip_test.
        models: in the order given.
        unreadable: a line for each image that could not be read or is not the annotated one; the figures are over the
            others.
        other_recipes: True: the files differ in more than precision, and key points have no common grid.
        unusable_boxes: boxes left out; see `PeopleBoxes`.
        shift_unit: what shifts are in, `ModelSpec.grid_unit` of the first file.
    """

    conditions: dict[str, Any]
    models: list[ModelAccuracy]
    unreadable: list[str]
    other_recipes: bool
    unusable_boxes: int = 0
    shift_unit: str = "heat-map px"

    def rows(self) -> list[list[str]]:
        """A row for each figure, a column for each file, differences from the first file in brackets.

        The first three rows are headings: the files' names, their precisions and backends, and what these computed in.
        """
        models = self.models
        rows = [["", *(each.model.name for each in models)]]
        rows.append(["", *(f"{each.precision.upper()} {each.backend}" for each in models)])
        rows.append(["computed in", *(each.arithmetic for each in models)])
        for name in FIGURES:
            values = [each.figures[name] for each in models]
            if any(value is not None for value in values):
                digits = DIGITS.get(name, 3)
                rows.append([name, *(_with_difference(value, values[0], i, digits) for i, value in enumerate(values))])
        if any(each.shift for each in models):
            for key, label, shape in SHIFTS:
                rows.append([label, *(shape.format(each.shift[key]) if each.shift else "" for each in models)])
        return rows

    def held_for(self) -> list[str]:
        """Which people, boxes and test; and what a shift is."""
        told = self.conditions
        lines = [
            f"{told['people']} people in {told['images']} images of {told['annotations']}, boxes: "
            f"{told['boxes'].partition(' sha256')[0]}, {'with' if told['flip_test'] else 'no'} flip test"
        ]
        if any(each.shift for each in self.models):
            first = self.models[0].model.name
            lines.append(f"shift: from {first}'s key points of score over 0.3, in {self.shift_unit}")
        return lines

    def notes(self) -> list[str]:
        """Random weights, what is missing, images and boxes left out."""
        notes = [
            f"{each.model.name} has random weights: its accuracy means nothing"
            for each in self.models
            if each.random_weights
        ]
        reasons: dict[str, list[str]] = {}
        for each in self.models:
            for reason in each.missing:
                reasons.setdefault(reason, []).append(each.model.name)
        for reason, names in reasons.items():
            notes.append(reason if len(names) == len(self.models) else f"{', '.join(names)}: {reason}")
        if self.other_recipes:
            notes.append("the files have different recipes (input, skeleton or decoder): key-point shifts are left out")
        return notes + images_left_out(self.unreadable) + left_out(self.unusable_boxes)

    def measured(self) -> Iterator[Measured]:
        """Each file's figures, under what ran it and what that computed in."""
        for each in self.models:
            conditions = {**self.conditions, "backend": each.backend, "arithmetic": each.arithmetic}
            yield Measured(each.model, each.sha256, conditions, each.figures)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        models = [{**asdict(each), "model": each.model.name} for each in self.models]
        return {
            "conditions": self.conditions,
            "versions": versions(),
            "models": models,
            "unreadable": self.unreadable,
            "unusable_boxes": self.unusable_boxes,
            "shift_unit": self.shift_unit,
        }


def _with_difference(value: float | None, reference: float | None, position: int, digits: int) -> str:
    if value is None:
        return "-"
    difference = f" ({value - reference:+.{digits}f})" if position and reference is not None else ""
    return f"{value:.{digits}f}{difference}"
