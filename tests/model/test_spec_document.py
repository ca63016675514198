"""The specs that docs/spec.md shows are specs."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from edgepose.model.heads import KINDS
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import Input, ModelSpec, Region

TEXT = (Path(__file__).parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
SHOWN = [json.loads(block) for block in re.findall(r"```json\n(\{.*?\n\})\n```", TEXT, re.DOTALL)]


@pytest.mark.parametrize("kind", [Lift, Volume, Fields, Tags], ids=lambda kind: kind.kind)
def test_the_example_of_a_head_is_a_spec(kind):
    (shown,) = [block for block in SHOWN if block.get("head", {}).get("kind") == kind.kind]

    spec = ModelSpec.from_json(shown)

    assert isinstance(spec.head, kind)
    assert spec.inputs
    assert spec.outputs


def test_the_table_of_a_lifters_head_names_each_entry_and_its_default():
    rows = {
        cells[1].strip("` "): cells[2].strip("` ")
        for cells in (row.split("|") for row in TEXT.splitlines())
        if len(cells) > 3
    }

    for name, default in (
        ("causal", False),
        ("points", "h36m17"),
        ("units", "screen"),
        ("root", "pelvis"),
        ("root_given", True),
    ):
        assert json.loads(rows[name]) == default == getattr(Lift(27), name)


@pytest.mark.parametrize("kind", [Fields, Tags], ids=lambda kind: kind.kind)
def test_the_table_of_a_bottom_up_head_names_each_entry_and_its_plain_defaults(kind):
    (table,) = re.findall(rf"\| entry of `{kind.kind}` .*?\n\n", TEXT, re.DOTALL)
    told: dict[str, str] = {}
    for row in table.strip().splitlines()[2:]:
        _, names, default, _ = (cell.strip() for cell in row.split("|", 3))
        keys = [name.strip("` ") for name in names.split(", ")]
        told.update(zip(keys, default.split(", ") if len(keys) > 1 else [default], strict=True))

    entries = {item.name: item.default for item in fields(kind)}

    assert set(told) == set(entries)
    for name, default in entries.items():
        if isinstance(default, (int, float, str)):
            assert json.loads(told[name].strip("`")) == default


def test_the_table_of_heads_names_every_kind():
    assert all(f'| `"{kind}"` |' in TEXT for kind in KINDS)


@pytest.mark.parametrize("kind", [Input, Region, Heatmaps, HeatmapsWithOffsets], ids=lambda kind: kind.__name__)
def test_the_tables_name_each_entry(kind):
    assert [item.name for item in fields(kind) if f"`{item.name}`" not in TEXT] == []
