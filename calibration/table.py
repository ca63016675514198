"""CalibrationTable: everything that was measured on a calibration set, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepose.errors import InputError, ModelFileError
from edgepose.files import parse_json, read_input, write_json

FORMAT = 3  # raise it when the rules that fill the table change


@dataclass(frozen=True)
class CalibrationTable:
    """What INT8 needs to know of one network and one calibration set. It lies beside the model: m.calibration.json.

    Attributes:
        made_from: what the figures depend on: hashes of weights, recipe and crops, the method, the tools' versions.
            The table is used again where all of it is the same, and never otherwise.
        ranges: tensor -> the magnitude that 127 stands for.
        factors: tensor -> what each of its channels is multiplied by before it is quantised.
        means: tensor -> the usual mean of each of its channels, after that multiplication.
        halves: tensor -> the ranges that two halves of the crops give alone; none where that was not asked for.
    """

    made_from: dict[str, Any]
    ranges: dict[str, float]
    factors: dict[str, list[float]]
    means: dict[str, list[float]]
    halves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def unstable(self) -> dict[str, float]:
        """By how much the larger of the two halves' ranges is over the smaller one, as a share, the largest first."""
        spread = {name: max(pair) / min(pair) - 1 for name, pair in self.halves.items()}
        return dict(sorted(spread.items(), key=lambda item: -item[1]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        return {"edgepose_calibration": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> CalibrationTable:
        """Read what `to_json` wrote; ModelFileError on anything else."""
        if not isinstance(data, Mapping) or data.get("edgepose_calibration") != FORMAT:
            raise ModelFileError(f"not an edgepose calibration table of format {FORMAT}")
        try:
            table = cls(
                made_from=dict(data["made_from"]),
                ranges={str(name): _number(value) for name, value in data["ranges"].items()},
                factors=_lists(data["factors"]),
                means=_lists(data["means"]),
                halves=_lists(data["halves"]),
            )
            pairs = list(table.halves.values())
            if not all(value > 0 for value in (*table.ranges.values(), *(each for pair in pairs for each in pair))):
                raise ValueError("a range must be over 0")
            return table
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"a calibration table with wrong entries: {error}") from error


def _lists(data: Mapping[str, Any]) -> dict[str, list[float]]:
    return {str(name): [_number(value) for value in values] for name, values in data.items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def table_path(model: Path, folder: Path) -> Path:
    """m.onnx -> folder/m.calibration.json."""
    return folder / f"{model.stem}.calibration.json"


def write_table(path: Path, table: CalibrationTable) -> None:
    """Write the table, whole or not at all."""
    write_json(path, table.to_json())


def usable_table(path: Path, made_from: Mapping[str, Any]) -> CalibrationTable | None:
    """The table at `path` if it is readable and was made from exactly this, else None."""
    try:
        table = CalibrationTable.from_json(parse_json(read_input(path)))
    except (InputError, ValueError, ModelFileError):  # missing or damaged: it will be made anew
        return None
    return table if table.made_from == made_from else None
