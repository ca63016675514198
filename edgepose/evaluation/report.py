"""What every evaluation gives: rows for a person, JSON for a file, and an entry for each model's passport."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import edgepose
from edgepose.errors import ModelFileError
from edgepose.files import locked
from edgepose.io.columns import aligned
from edgepose.model.passport import read_passport, write_passport

PACKAGES = ("openvino", "onnxruntime", "pycocotools", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Measured:
    """One model file's figures, as its passport keeps them.

    Attributes:
        model, sha256: the file, and its hash when it was loaded.
        conditions: what the figures hold for; a later entry of the same conditions replaces this one.
        figures: plain JSON values.
    """

    model: Path
    sha256: str
    conditions: Mapping[str, Any]
    figures: Mapping[str, Any]


class Report(Protocol):
    """The result of an evaluation of one or more model files."""

    @property
    def unreadable(self) -> list[str]:
        """A line for each image that could not be used; the figures are over the others."""

    def rows(self) -> list[list[str]]:
        """The figures as a table's cells."""

    def held_for(self) -> list[str]:
        """What the figures hold for, in words."""

    def notes(self) -> list[str]:
        """What a reader of the figures has to know besides."""

    def measured(self) -> Iterator[Measured]:
        """Each file's entry for its passport."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""


def table_of(report: Report) -> str:
    """The figures and what they hold for, as text."""
    return "\n".join([*aligned(report.rows()), *report.held_for()])


def images_left_out(unreadable: list[str]) -> list[str]:
    """How many images could not be used, and why; nothing where all could."""
    if not unreadable:
        return []
    return [f"{len(unreadable)} images could not be used; the figures are over the others", *unreadable]


def record_accuracy(report: Report) -> None:
    """Append each file's figures to its passport; those measured before under the same conditions give way.

    Raises:
        OSError: a passport cannot be written; it is then as it was.
        ModelFileError: a file or its passport has been damaged or exchanged since it was measured.
    """
    for each in report.measured():
        with locked(each.model.parent):  # others that evaluate the same file add theirs
            passport = read_passport(each.model)
            if passport.sha256 != each.sha256:
                raise ModelFileError(f"{each.model} was exchanged while it was measured")
            wanted = each.conditions
            others = [old for old in passport.accuracy if any(old.get(key) != wanted[key] for key in wanted)]
            entry = {**wanted, "versions": versions(), **each.figures}
            write_passport(each.model, replace(passport, accuracy=[*others, entry]))


def versions() -> dict[str, str]:
    """Of edgepose and the packages that figures depend on."""
    found = {"edgepose": edgepose.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
