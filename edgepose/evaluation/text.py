"""What was measured, in words and tables."""

from __future__ import annotations

from edgepose.evaluation.evaluate import Evaluation
from edgepose.evaluation.figures import FIGURES
from edgepose.io.people import left_out


def rows_of(evaluation: Evaluation) -> list[list[str]]:
    """The figures as a table's cells: a row each, a column per file, differences to the first file in brackets.

    The first three rows are headings: the files' names, their precisions and backends, and what these computed in.
    """
    engines = evaluation.engines
    rows = [["", *(each.engine.name for each in engines)]]
    rows.append(["", *(f"{each.precision.upper()} {each.backend}" for each in engines)])
    rows.append(["computed in", *(each.arithmetic for each in engines)])
    for name in FIGURES:
        values = [each.figures[name] for each in engines]
        if any(value is not None for value in values):
            rows.append([name, *(_with_difference(value, values[0], i) for i, value in enumerate(values))])
    if any(each.shift for each in engines):
        for key, label, shape in (
            ("mean", "shift mean px", "{:.3f}"),
            ("p95", "shift p95 px", "{:.2f}"),
            ("share_over_1", "moved over 1 px", "{:.1%}"),
        ):
            rows.append([label, *(shape.format(each.shift[key]) if each.shift else "" for each in engines)])
    return rows


def conditions_of(evaluation: Evaluation) -> list[str]:
    """What the figures hold for, in words."""
    conditions = evaluation.conditions
    lines = [
        f"{conditions['people']} people in {conditions['images']} images of {conditions['annotations']}, boxes: "
        f"{conditions['boxes'].partition(' sha256')[0]}, {'with' if conditions['flip_test'] else 'no'} flip test"
    ]
    if any(each.shift for each in evaluation.engines):
        first = evaluation.engines[0].engine.name
        lines.append(f"shift: from {first}'s key points of score over 0.3, in heat-map px")
    return lines


def table_of(evaluation: Evaluation) -> str:
    """`rows_of` and `conditions_of` as text."""
    rows = rows_of(evaluation)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *conditions_of(evaluation)])


def notes_on(evaluation: Evaluation) -> list[str]:
    """What a reader of the figures has to know: random weights, what is missing, images and boxes left out."""
    notes = [
        f"{each.engine.name} has random weights: its accuracy means nothing"
        for each in evaluation.engines
        if each.random_weights
    ]
    reasons: dict[str, list[str]] = {}
    for each in evaluation.engines:
        for reason in each.missing:
            reasons.setdefault(reason, []).append(each.engine.name)
    for reason, names in reasons.items():
        notes.append(reason if len(names) == len(evaluation.engines) else f"{', '.join(names)}: {reason}")
    if evaluation.other_recipes:
        notes.append("the files have different recipes (input, skeleton or decoder): key-point shifts are left out")
    if evaluation.unreadable:
        notes.append(f"{len(evaluation.unreadable)} images could not be used; the figures are over the others")
        notes += evaluation.unreadable
    return notes + left_out(evaluation.unusable_boxes)


def _with_difference(value: float | None, reference: float | None, position: int) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({value - reference:+.3f})" if position and reference is not None else "")
