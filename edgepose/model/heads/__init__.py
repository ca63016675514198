"""What a network's outputs mean: one kind of head a file.

A head is a frozen dataclass of plain values that checks them. Its class says `kind`, by which passports and specs name
it, and its `outputs(spec)` the names and shapes of the network's outputs, without the batch.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from edgepose.errors import ModelFileError
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.people import People
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.plain import from_plain, to_plain

Shape = tuple[int | None, ...]  # None is a size that the file decides


class Head(Protocol):
    """What every kind has."""

    kind: ClassVar[str]

    def outputs(self, spec: Any) -> dict[str, Shape]:
        """Names of the network's outputs, and their shapes without the batch."""
        ...


KINDS: dict[str, Any] = {
    head.kind: head for head in (Heatmaps, HeatmapsWithOffsets, SimCC, Fields, Tags, Detections, People, Lift, Volume)
}


def head_to_json(head: Head) -> dict[str, Any]:
    """Plain JSON values, `kind` first; `head_from_json` reads them back."""
    return {"kind": head.kind, **to_plain(head)}


def head_from_json(data: Any) -> Any:
    """The head that a JSON object describes; ModelFileError on anything else."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in KINDS:
        raise ModelFileError(f"spec's head must be an object whose kind is one of {', '.join(KINDS)}, got {kind!r}")
    return from_plain(KINDS[kind], {key: value for key, value in data.items() if key != "kind"}, f"spec's head {kind}")
