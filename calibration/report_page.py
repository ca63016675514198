"""The page of a calibration's report: a table, charts and pictures of what `report` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from edgepose.calibration.charts import histogram, sensitivity_bars, trade_off
from edgepose.calibration.effects import CONFIDENT
from edgepose.calibration.pipeline import Calibrated
from edgepose.calibration.search import Trial
from edgepose.calibration.study import Study
from edgepose.io.html import Picture, Section

WORST_TENSORS = 6


def sections(result: Calibrated, seen: Study, data: Mapping[str, Any], pictures: Sequence[Picture]) -> list[Section]:
    """The page's sections, from what `report.write_report` measured."""
    parts = [_table(data)]
    if result.chosen is not None:
        parts.append(_curve(result.chosen.found.trials, data["trials"], result.chosen.budget))
    about = (
        f"Measured on {seen.found.crops} crops; all in INT8 move key points {seen.found.whole.shift_px:.3f} px on "
        f"average. {seen.path.name} has every layer and tensor."
    )
    parts.append(Section("Which layers cost it", [about], charts=[sensitivity_bars(seen.found)]))
    parts.append(_stability(data))
    loudest = sorted(seen.found.tensors, key=lambda name: -seen.found.tensors[name].only.noise)[:WORST_TENSORS]
    charts = [histogram(name, seen.found.seen[name]) for name in loudest]
    parts.append(Section("The tensors that make most noise, and their ranges", charts=charts))
    legend = "FP32 in blue, INT8 in orange over it; how far key points moved on average, px of the input."
    parts.append(Section("The people whose key points moved most", [legend], pictures=pictures, columns=0))
    return parts


def _stability(data: Mapping[str, Any]) -> Section:
    spread: Mapping[str, float] = data["range_spread"]
    about = [*data["warnings"]]
    if not spread:
        return Section(
            "How stable the ranges are",
            [*about, "No halves to compare: there was one person, or the search chose another range method."],
        )
    about.append(
        f"Each half of the people gives a range of its own: the larger one is {median(spread.values()):.1%} over the "
        f"smaller one in the median of {len(spread)} tensors. Where halves differ much, more people are wanted."
    )
    rows = [["tensor", "halves differ by"]]
    rows += [[name, f"{share:.1%}"] for name, share in list(spread.items())[:WORST_TENSORS]]
    return Section("How stable the ranges are", about, rows=rows)


def _table(data: Mapping[str, Any]) -> Section:
    rows = data["files"]
    unit = {"ap": "AP, %", "pck": "PCK@0.2, %"}.get(data["figure"] or "", "")
    oks = any(row["oks_lost"] is not None for row in rows)
    head = ["", "shift mean, px", "95th percentile", *(["OKS lost"] * oks), *([unit] if unit else []), "in INT8"]
    cells = [[*head, f"predicted, µs on {data['device']}"]]
    for row in rows:
        figure = "" if row["figure"] is None else f"{row['figure']:.2f} ± {row['error']:.2f}"
        cells.append(
            [
                row["name"],
                f"{row['mean']:.3f}",
                f"{row['p95']:.2f}",
                *([f"{row['oks_lost']:.4f}"] if row["oks_lost"] is not None else [""] * oks),
                *([figure] if unit else []),
                "" if row["int8_share"] is None else f"{row['int8_share']:.1%}",
                "" if row["predicted_us"] is None else f"{row['predicted_us']:.0f}",
            ]
        )
    source = "what layers took in two profiled plans" if data["profiled"] else "the device's data sheet, not measured"
    about = [
        f"Shift of key points from FP32's with a score over {CONFIDENT}, px of the network's input, on "
        f"{data['people']} people who were not calibrated on, INT8 computed exactly. Times are predicted from "
        f"{source}: they rank mixes of one network."
    ]
    if unit:
        about.append("±: standard error of the difference to FP32 on the same people (jackknife over images).")
    return Section("What each file costs", about, rows=cells)


def _curve(trials: Sequence[Trial], plain: Sequence[Mapping[str, Any]], budget: Any) -> Section:
    timed = any(trial.predicted_us for trial in trials)
    points = [
        {
            "cost": each["predicted_us"] if timed else 100 * (each["int8_share"] or 0),
            "loss": each["loss"],
            "error": each["error"],
            "text": f"{len(each['layers'])} layers, {each['method']}",
            "chosen": each["chosen"],
        }
        for each in plain
    ]
    cost = "predicted time, µs" if timed else "multiply-adds in INT8, %"
    chart = trade_off(points, cost, f"loss, {budget.unit}", budget.value)
    return Section("The mixes that were tried", [f"The budget is {budget}; bars: standard errors."], charts=[chart])
