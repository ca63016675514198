"""Every file knows its room, and a room imports only from those below it; docs/architecture.md shows the same rooms."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.packaging.conftest import ROOT
from tests.packaging.test_imports import SOURCES, imports_of

# From the top down. A name is a folder, or a file without its ending.
LAYERS = {
    "edgepose": (
        *("__main__", "cli", "infer", "evaluation", "estimate", "backends", "trt", "cuda"),
        *("machine", "io", "stages", "model", "timing", "files", "limits", "interrupts", "errors"),
    ),
    "export": (
        *(
            "training",
            "detectors",
            "people",
            "whole_images",
            "space",
            "bottom_up",
            "maps",
            "by_value",
            "presets",
            "foreign",
            "fitting",
            "pipeline",
            "pair",
            "verify",
            "zoo",
        ),
        *("checkpoints", "drawn", "networks", "to_onnx", "graph"),
    ),
}
FOR_CALIBRATION = "graph"  # the one room of export/ that calibration/ may use


def room_of(half: str, module: str) -> str | None:
    """The room of a half that a module ("edgepose.export.graph.fold.fold") lies in; None if in no room of it."""
    prefix = "edgepose." if half == "edgepose" else f"edgepose.{half}."
    name = module.removeprefix(prefix).partition(".")[0] if module.startswith(prefix) else None
    return name if name in LAYERS[half] else None


def rooms() -> Iterator[tuple[str, str, str]]:
    """Each source file of both halves: half, room, path."""
    for source in SOURCES:
        half, _, rest = source.partition("/")
        if half in LAYERS and rest != "__init__.py":
            yield half, rest.partition("/")[0].removesuffix(".py"), source


def test_every_file_lies_in_a_room():
    assert [source for half, room, source in rooms() if room not in LAYERS[half]] == []


@pytest.mark.parametrize(("half", "room", "source"), list(rooms()), ids=lambda value: str(value))
def test_a_room_imports_only_from_rooms_below_it(half: str, room: str, source: str):
    above = LAYERS[half][: LAYERS[half].index(room)]

    upward = [module for module, _ in imports_of(source) if room_of(half, module) in above]

    assert upward == [], f"{source} imports {', '.join(upward)}; {room} lies below {', '.join(above)}"


@pytest.mark.parametrize("source", [source for source in SOURCES if source.startswith("calibration/")])
def test_calibration_uses_the_graphs_of_export_alone(source: str):
    of_export = {module for module, _ in imports_of(source) if module.startswith("edgepose.export.")}

    assert {module for module in of_export if room_of("export", module) != FOR_CALIBRATION} == set()


def test_the_map_shows_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\b(\w+)(?:/|\.py\b)", text))

    for half, names in LAYERS.items():
        there = {
            path.stem for path in (ROOT / half).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
        }
        assert set(names) <= there, f"LAYERS names what {half}/ has not"
        assert set(names) - shown == set(), "docs/architecture.md lacks them"
