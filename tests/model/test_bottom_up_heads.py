import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec, Region

COCO = SimpleNamespace(skeleton=COCO17)
NECK = SimpleNamespace(skeleton=OPENPOSE18)


def test_outputs_of_fields():
    head = Fields((46, 54))

    assert head.outputs(NECK) == {"heatmaps": (19, 46, 54), "pafs": (38, 46, 54)}
    assert replace(head, joined=True).outputs(NECK) == {"heatmaps": (57, 46, 54)}


def test_57_channels_are_not_of_17_key_points():
    with pytest.raises(ValueError, match=r"limbs name key point 17 \(from 0 on\), skeleton 'coco17' has 17"):
        Fields((46, 54)).outputs(COCO)


@pytest.mark.parametrize("head", [Fields((8, 8)), Tags((8, 8))], ids=lambda head: head.kind)
def test_a_picture_of_everybody_is_no_crop(head):
    skeleton = COCO17 if isinstance(head, Tags) else OPENPOSE18

    with pytest.raises(ValueError, match='finds everybody in a whole image: input wants a resize of "letterbox"'):
        ModelSpec("theirs", Input((64, 64)), head, skeleton, Region())


def test_outputs_of_tags():
    assert Tags((128, 128)).outputs(COCO) == {"heatmaps": (17, 128, 128), "tags": (17, 128, 128)}
    assert Tags((128, 128), tag_size=2).outputs(COCO)["tags"] == (34, 128, 128)
    with pytest.raises(ValueError, match="order names 3 key points, skeleton 'coco17' has 17"):
        Tags((128, 128), order=(0, 1, 2)).outputs(COCO)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_hw": (46,)}, "size_hw must be two whole numbers"),
        ({"size_hw": (46, 1.5)}, "size_hw must be two whole numbers"),
        ({"limbs": ()}, "limbs must be pairs"),
        ({"limbs": ((1, 1),), "fields": (0,)}, "limbs must be pairs"),
        ({"fields": (0, 1)}, "fields must name each of 19 fields once"),
        ({"fill_limbs": 20}, "fill_limbs must be a whole number from 0 to 19"),
        ({"upsample": 0}, "upsample must be"),
        ({"samples": True}, "samples must be"),
        ({"samples_share": 1.0}, "samples_share must be under 1"),
        ({"peak_threshold": 0}, "peak_threshold must be over 0"),
        ({"min_score": float("nan")}, "min_score must be a number"),
    ],
)
def test_fields_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Fields((46, 54)), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_hw": (0, 128)}, "size_hw must be two whole numbers"),
        ({"order": (0, 0, 1)}, "order must name each key point once"),
        ({"order": ()}, "order must name each key point once"),
        ({"tag_size": 0}, "tag_size must be"),
        ({"window": 4}, "window must be odd"),
        ({"top_k": 257}, "top_k must be a whole number from 1 to 256"),
        ({"tag_threshold": 0}, "tag_threshold must be a number over 0"),
        ({"peak_threshold": float("inf")}, "peak_threshold must be a number over 0"),
        ({"center_shift": 2}, "center_shift must be a number from 0 to 1"),
        ({"refinement": "dark"}, "refinement must be one of mmpose, original"),
    ],
)
def test_tags_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Tags((128, 128)), **changes)


def test_every_limb_of_openpose_is_drawn_but_those_that_only_fill():
    head = Fields((46, 54))

    assert {frozenset(limb) for limb in head.limbs[:-2]} == {frozenset(limb) for limb in OPENPOSE18.limbs}


@pytest.mark.parametrize("head", [Fields((46, 54)), Tags((128, 128))])
def test_heads_come_back_from_json(head):
    data = json.loads(json.dumps(asdict(head)))

    assert type(head)(**data) == head
