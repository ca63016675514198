"""One drawn picture at several input sizes."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.errors import ModelFileError
from edgepose.estimate.bottom_up import find_people
from edgepose.estimate.scales import check_scales, merge_scales
from edgepose.estimate.whole import estimate_people
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.people import People
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec
from edgepose.stages.enlarge import enlarge, resample
from edgepose.stages.letterbox import Letterbox

IMAGE_HW = (192, 320)
HEADS = {"fields": Fields((2, 2), upsample=4), "tags": Tags((2, 2), upsample=4, center_shift=0.0)}


def at_scale(kind: str, input_hw: tuple[int, int], stride: int = 4) -> tuple[dict[str, np.ndarray], Letterbox]:
    """Two people of IMAGE_HW as a network of that input size would see them, and how the image lies in it."""
    letterbox = Letterbox.fit(IMAGE_HW, input_hw, "letterbox-center")
    people = draw_people(2, IMAGE_HW, np.random.default_rng(3), height=130)
    people += [[[90.0, 96.0]], [[230.0, 96.0]]] - people.mean(axis=1, keepdims=True)
    points = letterbox.to_input((people + 0.5).astype(np.float64)) / stride - 0.5
    maps_hw = (input_hw[0] // stride, input_hw[1] // stride)
    rng = np.random.default_rng(4)
    if kind == "tags":
        points = points[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, maps_hw, rng, missing=0)
    if kind == "tags":
        return {"heatmaps": heatmaps, "tags": draw_tags(points, drawn, maps_hw, rng)}, letterbox
    background = np.zeros((1, *maps_hw), np.float32)
    fields = draw_fields(points, drawn, maps_hw, rng)
    return {"heatmaps": np.concatenate([heatmaps, background]), "pafs": fields}, letterbox


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("size_hw", [(28, 36), (5, 9), (7, 9), (3, 4)])
def test_resampling_a_whole_map_is_cv2_resize(interpolation, size_hw):
    maps = np.random.default_rng(0).normal(size=(3, 7, 9)).astype(np.float32)
    rows, columns = ((np.arange(count) + 0.5) * (old / count) - 0.5 for count, old in zip(size_hw, (7, 9), strict=True))

    found = resample(maps, rows, columns, interpolation)

    method = cv2.INTER_CUBIC if interpolation == "cubic" else cv2.INTER_LINEAR
    wanted = [cv2.resize(one, size_hw[::-1], interpolation=method) for one in maps]
    np.testing.assert_allclose(found, wanted, atol=2e-6)  # a few roundings of values up to 4


def test_beyond_a_map_lies_nothing_and_no_maps_are_none():
    ones = np.ones((1, 4, 4), np.float32)

    found = resample(ones, np.array([-0.6, -0.4, 1.5, 3.5, 3.6]), np.array([2.0]), "cubic")

    np.testing.assert_allclose(found[0, :, 0], [0, 1, 1, 1, 0], atol=1e-6)
    assert resample(ones[:0], np.arange(3.0), np.arange(2.0), "linear").shape == (0, 3, 2)


@pytest.mark.parametrize("kind", ["fields", "tags"])
def test_one_scale_is_the_network_itself(kind):
    outputs, letterbox = at_scale(kind, (192, 320))
    head = HEADS[kind]

    merged, read_by = merge_scales([(outputs, letterbox)], head)

    alone, found = find_people(outputs, head, letterbox), find_people(merged, read_by, letterbox)
    np.testing.assert_allclose(found[0].xy, alone[0].xy, atol=1e-4)  # halves of px added in another order
    np.testing.assert_array_equal(found[1], alone[1])


@pytest.mark.parametrize("kind", ["fields", "tags"])
def test_scales_that_lie_differently_in_their_inputs_agree_on_the_people(kind):
    scales = [at_scale(kind, hw) for hw in ((192, 320), (96, 192), (416, 640), (384, 384))]

    merged, head = merge_scales(scales, HEADS[kind])

    poses, _ = find_people(merged, head, scales[0][1])
    alone, _ = find_people(scales[0][0], HEADS[kind], scales[0][1])
    assert len(poses) == 2
    order = [int(np.nanargmin(np.abs(poses.xy[:, 0, 0] - x))) for x in alone.xy[:, 0, 0]]
    # drawn Gaussians of sigma 2 px of each map: in the coarsest one, of stride 4 at 0.5, the peak is 8 px wide
    assert np.abs(poses.xy[order] - alone.xy).max() < 3


def test_heat_maps_and_fields_are_averages_and_tags_the_firsts():
    (first, letterbox), (other, _) = at_scale("tags", (192, 320)), at_scale("tags", (192, 320))
    other = {"heatmaps": other["heatmaps"] + 1, "tags": other["tags"] + 9}

    merged, _ = merge_scales([(first, letterbox), (other, letterbox)], HEADS["tags"])

    np.testing.assert_allclose(merged["heatmaps"], enlarge(first["heatmaps"], 4, "linear") + 0.5, atol=1e-5)
    np.testing.assert_array_equal(merged["tags"], enlarge(first["tags"], 4, "linear"))


def test_fields_behind_heat_maps_are_merged_as_apart():
    scales = [at_scale("fields", hw) for hw in ((192, 320), (96, 160))]
    joined = [({"heatmaps": np.concatenate([maps["heatmaps"], maps["pafs"]])}, box) for maps, box in scales]

    apart, _ = merge_scales(scales, HEADS["fields"])
    together, _ = merge_scales(joined, replace(HEADS["fields"], joined=True))

    np.testing.assert_array_equal(together["heatmaps"], np.concatenate([apart["heatmaps"], apart["pafs"]]))


class Network:
    """A network of one input size that sees the picture drawn for it, and its mirror image mirrored."""

    def __init__(self, kind: str, input_hw: tuple[int, int]) -> None:
        picture = Input(input_hw, resize="letterbox", anchor="center")
        skeleton = COCO17 if kind == "tags" else OPENPOSE18
        head = replace(HEADS[kind], size_hw=(input_hw[0] // 4, input_hw[1] // 4))
        self.passport = SimpleNamespace(spec=ModelSpec(f"drawn_{input_hw[0]}", picture, head, skeleton))
        self.outputs = at_scale(kind, input_hw)[0]
        self.flip_order = skeleton.flip_order

    def run(self, arrays):
        found = {}
        for name, maps in self.outputs.items():
            turned = maps[self.flip_order, :, ::-1] if len(maps) == len(self.flip_order) else maps
            found[name] = np.stack([maps, turned][: len(arrays["images"])])
        return found


@pytest.mark.parametrize(("kind", "flip_test"), [("fields", False), ("tags", False), ("tags", True)])
def test_a_picture_is_laid_into_every_scale(kind, flip_test):
    networks = [Network(kind, hw) for hw in ((192, 320), (96, 192), (384, 640))]
    image = np.zeros((*IMAGE_HW, 3), np.uint8)

    poses, scores = estimate_people(networks[0], image, scales=networks[1:], flip_test=flip_test)

    alone, _ = estimate_people(networks[0], image)
    assert len(poses) == len(scores) == 2
    assert abs(np.sort(poses.xy[:, 0, 0]) - np.sort(alone.xy[:, 0, 0])).max() < 3


def test_another_network_is_no_scale():
    spec, other = Network("fields", (192, 320)).passport.spec, Network("fields", (96, 160)).passport.spec

    check_scales(spec, [other])
    with pytest.raises(ModelFileError, match="drawn_96 is no other scale of drawn_192: but for input and map sizes"):
        check_scales(spec, [replace(other, head=replace(other.head, limbs=other.head.limbs[::-1]))])
    with pytest.raises(ModelFileError, match="no other scale"):
        check_scales(spec, [Network("tags", (96, 160)).passport.spec])
    people = ModelSpec("one_stage", Input((64, 64), resize="letterbox"), People("dets"), COCO17)
    with pytest.raises(ModelFileError, match="people head, of which no test at several scales was published"):
        check_scales(people, [people])
