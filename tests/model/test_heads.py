"""Every kind of head goes through a spec's JSON, and names what the network gives."""

from __future__ import annotations

import json

import pytest

from edgepose.model.heads import KINDS
from edgepose.model.heads.detections import Detections
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.heatmaps import Heatmaps, HeatmapsWithOffsets
from edgepose.model.heads.lift import Lift
from edgepose.model.heads.people import People
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.tags import Tags
from edgepose.model.heads.volume import Volume
from edgepose.model.skeletons import COCO17, H36M17, NO_KEYPOINTS, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec, Region

CROP, WHOLE = Input((256, 192)), Input((320, 320), resize="letterbox", anchor="center", fill=0)
SPECS = [
    ModelSpec("maps", CROP, Heatmaps((64, 48)), COCO17, Region()),
    ModelSpec("offsets", CROP, HeatmapsWithOffsets((64, 48)), COCO17, Region(alignment="udp")),
    ModelSpec("simcc", CROP, SimCC(2.0, sigma=(4.9, 5.66)), COCO17, Region()),
    ModelSpec("volume", CROP, Volume((64, 64, 48)), H36M17, Region()),
    ModelSpec("fields", WHOLE, Fields((40, 40)), OPENPOSE18),
    ModelSpec("tags", WHOLE, Tags((80, 80)), COCO17),
    ModelSpec("boxes", WHOLE, Detections("yolox"), NO_KEYPOINTS),
    ModelSpec("people", WHOLE, People("yolo"), COCO17),
    ModelSpec("lifter", None, Lift(27, points="coco17"), H36M17),
]


def test_every_kind_has_an_example_here():
    assert {spec.head.kind for spec in SPECS} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "unit", "outputs"),
    [
        ("maps", "heat-map px", "heat maps"),
        ("offsets", "heat-map px", "heat maps"),
        ("simcc", "input px", "vectors"),
        ("volume", "px of the volume", "heat maps"),
    ],
)
def test_what_key_points_are_read_in_is_called_by_its_name(name, unit, outputs):
    spec = next(spec for spec in SPECS if spec.name == name)

    assert (spec.grid_unit, spec.outputs_in_words) == (unit, outputs)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_spec_of_any_kind_is_read_back(spec):
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("maps", {"crops": (3, 256, 192)}, {"heatmaps": (17, 64, 48)}),
        ("offsets", {"crops": (3, 256, 192)}, {"heatmaps": (51, 64, 48)}),
        ("simcc", {"crops": (3, 256, 192)}, {"simcc_x": (17, 384), "simcc_y": (17, 512)}),
        ("tags", {"images": (3, 320, 320)}, {"heatmaps": (17, 80, 80), "tags": (17, 80, 80)}),
        ("boxes", {"images": (3, 320, 320)}, {"output": (2100, 85)}),
        ("lifter", {"points": (27, 17, 2)}, {"xyz": (17, 3)}),
    ],
)
def test_inputs_and_outputs_have_names_and_shapes(name, inputs, outputs):
    spec = next(spec for spec in SPECS if spec.name == name)

    assert (spec.inputs, spec.outputs) == (inputs, outputs)


def test_a_head_that_does_not_fit_its_skeleton_is_refused():
    with pytest.raises(ValueError, match="limbs name key point"):
        ModelSpec("fields", WHOLE, Fields((40, 40)), COCO17)
