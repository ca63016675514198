"""Under which id and which name each input's results and overlay go."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edgepose.errors import InputError
from edgepose.io.boxes import ImageBoxes
from edgepose.io.sources import Source
from edgepose.io.video import VIDEO_SUFFIXES


def image_ids(entries: Sequence[ImageBoxes], boxes_file: Path | None) -> dict[Path, int | str]:
    """Each image's image_id: the boxes file's or the number that its name is, else its name; its path if shared."""
    ids = {entry.path: entry.path.name if entry.image_id is None else entry.image_id for entry in entries}
    shared = {one for one, count in Counter(ids.values()).items() if count > 1}
    return {path: str(path) if one in shared and boxes_file is None else one for path, one in ids.items()}


def overlay_targets(inputs: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each input's overlay goes: under its own name, numbered where two inputs share it."""
    originals = {os.path.realpath(path) for path in inputs}  # Path.resolve would end at a circle of links
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in inputs:
        suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
        suffix = ".mp4" if path.suffix.lower() in VIDEO_SUFFIXES else suffix
        name, number = _short(path.stem, suffix), 1
        while name in taken:
            number += 1
            name = _short(path.stem, f"-{number}{suffix}")
        taken.add(name)
        targets[path] = folder / name
        if os.path.realpath(targets[path]) in originals:
            raise InputError(f"{targets[path]} is an input, and the overlay would replace it: choose another --out")
    return targets


def _short(stem: str, end: str) -> str:
    """A file's name of at most 255 bytes, which is what file systems take."""
    name, room = os.fsencode(stem), 255 - len(end)
    return (stem if len(name) <= room else name[:room].decode(errors="ignore")) + end


def source_overlays(sources: Sequence[Source], folder: Path) -> list[Path | None]:
    """Where each source's overlay video goes: under what its name has of letters and digits."""
    names = [re.sub(r"[^A-Za-z0-9]+", "-", Path(source.name).stem).strip("-") or "source" for source in sources]
    numbered = [f"{name}-{names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]
    return [folder / "overlays" / f"{name}.mp4" for name in numbered]
