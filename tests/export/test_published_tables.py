"""What the zoo says of published files, against the publishers' tables in the reference data."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from edgepose.export.zoo.find import models
from edgepose.export.zoo.identify import _EARLIER
from tests.shared_data import SHARED, needs_shared

pytestmark = needs_shared
# RTMW3D's figures are those of mmpose's projects/rtmpose3d/README.md, which no table here has
PUBLISHED = [model for model in models() if model.published and not model.name.startswith("rtmw3d")]


def rows() -> list[list[str]]:
    """The cells of each row that names a file."""
    text = (SHARED / "reference" / "checkpoints.md").read_text(encoding="utf-8")
    return [
        line[1:].removesuffix("|").split("|") for line in text.splitlines() if line.startswith("|") and ".pth`" in line
    ]


def later_rows() -> dict[str, str]:
    """File name -> what is published of it: AP or another measure, for the networks of 2023 and later."""
    text = (SHARED / "reference" / "networks_2026.md").read_text(encoding="utf-8")
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("|") and ".pth" in line]
    return {row[3].removesuffix(" |").rsplit("/", 1)[1].removesuffix(".pth"): row[2] for row in cells}


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: f"{model.label} {model.spec.decoder}")
def test_a_published_file_has_its_tables_accuracy(model):
    name = model.published.url.rsplit("/", 1)[1].removesuffix(".pth")
    if later := later_rows().get(name):
        assert float(later.split()[-1]) == model.published.accuracy
        return
    found = []
    for cells in rows():
        for cell, accuracies in pairwise(cells):
            files = re.findall(r"([\w.-]+)\.pth", cell)
            if name in files:
                several = accuracies.split(",")  # MPII's table has the depths or widths in one row
                found.append(several[files.index(name)] if len(several) == len(files) else accuracies)

    assert len(found) == 1
    assert f"{model.published.accuracy:.3f}"[1:] in found[0]


def test_files_without_an_address_have_their_tables_accuracy():
    text = (SHARED / "reference" / "checkpoints.md").read_text(encoding="utf-8")
    stacks, accuracies = re.search(r"^\| HGP \| `checkpoint.pt` (.+?) \| (.+?) val \|", text, re.MULTILINE).groups()

    stacked = [model for model in models() if model.by_hand and model.name.startswith("stacked")]
    found = {f"princeton-vl's {model.name[-1]}HG checkpoint.pt": model.by_hand.accuracy for model in stacked}

    names = [f"princeton-vl's {each} checkpoint.pt" for each in stacks.split(" / ")]
    assert found == dict(zip(names, map(float, accuracies.split(" / ")), strict=True))
    assert all(model.by_hand.file in found for model in stacked)


def test_later_files_without_a_hash_in_their_name_have_their_tables_accuracy():
    by_hand = [model.by_hand for model in models() if model.by_hand and model.name.startswith("rtmw")]

    assert len(by_hand) == 3
    for file in by_hand:
        assert float(later_rows()[file.file.removesuffix(".pth")].split()[-1]) == file.accuracy


def test_earlier_files_have_the_place_of_their_row_and_column():
    expected = {"b05435b9": ("hrnet_w32", 256, "quarter")}  # v1's, trained on more than COCO
    for label, small, _, large, *_ in (cells for cells in rows() if len(cells) == 5 and "td-hm" not in cells[1]):
        kind = label.split()[0]
        names = {"w": "hrnet_w", "r": "simplebaseline_resnet"}.get(kind[0], kind.lower())
        numbers = re.findall(r"\d+", kind) if kind[0] in "wr" else [""]
        recipe = label.strip().removeprefix(kind).strip()
        decoder = {"": "quarter", "udp regress": "udp-combined"}.get(recipe, recipe)
        for height, cell in ((256, small), (384, large)):
            for number, digest in zip(numbers, re.findall(r"-([0-9a-f]{8})_20", cell), strict=False):
                expected[digest] = (names + number, height, decoder)
    by_url = {model.published.sha256_prefix for model in PUBLISHED}

    assert {digest: place for digest, place in expected.items() if digest not in by_url} == _EARLIER
