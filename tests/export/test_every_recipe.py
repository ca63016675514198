"""Every recipe of the zoo from picture to key points, through the public path with a network that cannot err.

Each pixel of the picture says where it is, so the network of this test reads off its crop where the image's points
are, whatever warp, colour order and normalisation the crop went through, and draws them as the recipe's training
would have. What comes back is wrong by the decoder's own error, or the recipe is not one convention throughout.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepose import estimate_poses
from edgepose.backends.host import HostBackend
from edgepose.backends.runtime import Arrays, HostRuntime
from edgepose.export.zoo.find import models
from edgepose.model.heads.heatmaps import DECODERS, HeatmapsWithOffsets
from edgepose.model.heads.simcc import SimCC
from edgepose.model.passport import Passport
from edgepose.model.spec import ModelSpec
from edgepose.stages.geometry import Regions

BOXES = np.array(
    [
        (60, 40, 180, 220),  # tall
        (20, 100, 240, 150),  # wide
        (100, 100, 130, 140),  # small
        (-40, -30, 80, 120),  # over the left and upper border
        (150, 140, 300, 290),  # over the right and lower one
        (-50, -50, 300, 300),  # larger than the image
    ],
    dtype=np.float64,
)
# Heat-map px by which a decoder misses a noiseless Gaussian: inside; and within 2 px of the border, where "quarter" and
# "dark" leave the peak's pixel as it is, the blur of "udp" pulls in the black outside, and that of its other kinds
# meets a mirror, in which offsets do not change sign.
OWN_ERROR = {
    "argmax": (0.5, 0.5),
    "quarter": (0.25, 0.5),
    "dark": (0.02, 0.5),
    "udp": (0.02, 0.9),
    "udp-combined": (0.0, 0.0),
    "udp-v0": (0.02, 1.5),
    "udp-original": (0.02, 1.5),
    "udp-combined-v0": (0.01, 2.3),
    "simcc": (0.37, 0.37),  # px of the input: half a bin, and what 8-bit pixels misread there
}
READING = 0.04  # heat-map px by which the test's network misreads 8-bit pixels


def recipes() -> dict[str, ModelSpec]:
    """What `edgepose export` can put into a passport, each meaning once; random and foreign weights aside."""
    found: dict[ModelSpec, str] = {}
    for model in models():
        for key in {"": 0, **model.recipes}:
            spec = model.spec.changed(**model.recipes.get(key, {}), name="any")
            if isinstance(spec.head, SimCC):
                found.setdefault(spec, f"{model.label} simcc")
                continue
            spec = spec.changed(refine=None)
            forms = [spec]
            if spec.heatmaps.decoder == "quarter":
                forms += [spec.changed(decoder=decoder) for decoder in ("argmax", "dark")]
            if spec.crop.alignment == "corner":
                forms.append(spec.changed(decoder="dark", alignment="darkpose", flip_shift=0))
            for form in forms:
                found.setdefault(
                    form, f"{model.label} {key} {form.heatmaps.decoder} {form.crop.alignment}".replace("  ", " ")
                )
    return {name: spec for spec, name in found.items()}


RECIPES = recipes()


def coordinates_picture() -> np.ndarray:
    """(256, 256, 3) uint8 RGB: red is x, green is y, blue says that there is a picture."""
    y, x = np.mgrid[:256, :256].astype(np.uint8)
    return np.stack([x, y, np.full_like(x, 255)], axis=2)


class Reader(HostRuntime):
    """A network that draws `points` (N, K, 2), image px, of N crops, or of N crops and their mirror images."""

    name = "reader"

    def __init__(self, spec: ModelSpec, points: np.ndarray) -> None:
        super().__init__(Path("none"), Passport(spec, "fp32", "0" * 64, "known"), None)
        self.points = points

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:  # all at once: a crop's number tells whose it is
        return self._run(arrays)

    def _run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        crops = arrays["crops"]
        each = [self._draw(crop, self.points[i % len(self.points)]) for i, crop in enumerate(crops)]
        return {
            name: np.stack(parts)
            for name, parts in zip(self.passport.spec.outputs, zip(*each, strict=True), strict=True)
        }

    def _free(self) -> None:
        pass

    def _draw(self, crop: np.ndarray, points: np.ndarray) -> np.ndarray:
        spec = self.passport.spec
        pixels = crop * np.reshape(spec.image.std, (3, 1, 1)) + np.reshape(spec.image.mean, (3, 1, 1))
        red, green, blue = pixels if spec.image.color_order == "rgb" else pixels[::-1]
        seen = blue > 254.9
        (step_x, first_x), (step_y, first_y) = _line(red, seen, axis=0), _line(green, seen, axis=1)
        assert step_y > 0
        if step_x < 0:  # a mirror image, in which a network takes the left hand for the right one
            points = points[list(spec.skeleton.flip_order)]
        crop_px = np.stack([(points[:, 0] - first_x) / step_x, (points[:, 1] - first_y) / step_y], axis=1)
        return drawn(spec, trained_position(spec, crop_px))


def _line(values: np.ndarray, seen: np.ndarray, axis: int) -> np.ndarray:
    """Slope and first value of the straight line that the means across an axis lie on, of what is seen."""
    count = seen.sum(axis=axis)
    at = np.flatnonzero(count)
    return np.polyfit(at, (values * seen).sum(axis=axis)[at] / count[at], 1)


def trained_position(spec: ModelSpec, crop_px: np.ndarray) -> np.ndarray:
    """Heat-map px at which the training of each alignment put a point of the crop."""
    crop_wh, map_wh = np.array(spec.image.size_hw[::-1]), np.array(spec.grid_hw[::-1])
    if spec.crop.alignment == "corner":
        return crop_px * map_wh / crop_wh
    if spec.crop.alignment == "half-pixel":
        return (crop_px + 0.5) * map_wh / crop_wh - 0.5
    if spec.crop.alignment == "darkpose":  # both grids about their centres, with the width's scale
        return (crop_px - (crop_wh - 1) / 2) * (map_wh[0] - 1) / (crop_wh[0] - 1) + (map_wh - 1) / 2
    return crop_px * (map_wh - 1) / (crop_wh - 1)


def drawn(spec: ModelSpec, xy: np.ndarray) -> list[np.ndarray]:
    """(C, h, w) Gaussians, sigma 2, at (K, 2) heat-map px; with offsets towards them where the spec has them.

    Of SimCC a vector of x and one of y for each point, of RTMW3D one of the depth too: 0.
    """
    if isinstance(spec.head, SimCC):
        places = (
            2 * xy[:, axis, None] - np.arange(bins) for axis, bins in enumerate(spec.head.bins(spec.image.size_hw))
        )
        depth = [np.tile(np.arange(spec.head.depth_bins) - spec.head.depth_bins // 2, (len(xy), 1))] * spec.gives_depth
        return [np.exp(-(distance**2) / 32).astype(np.float32) for distance in (*places, *depth)]
    height, width = spec.heatmaps.size_hw
    dx, dy = xy[:, 0, None, None] - np.arange(width), xy[:, 1, None, None] - np.arange(height)[:, None]
    maps = np.exp(-(dx**2 + dy**2) / 8)
    if isinstance(spec.head, HeatmapsWithOffsets):
        radius = spec.heatmaps.offset_radius * max(height, width)
        maps = np.stack([maps, *np.broadcast_arrays(dx / radius, dy / radius)], axis=1)
    return [maps.reshape(spec.num_maps, height, width).astype(np.float32)]


def points_for(spec: ModelSpec, regions: Regions) -> np.ndarray:
    """(N, K, 2) image px: even key points inside the heat map, odd ones within 2 px of its border or in a corner."""
    height, width = spec.grid_hw
    rng = np.random.default_rng(0)
    right, bottom = width - 1, height - 1
    border = [(0, 0), (right, 0), (0, bottom), (right, bottom), (0.4, height / 2), (right - 0.4, height / 2)]
    border += [(width / 2, 0.6), (width / 2, bottom - 0.6), (1.5, 1.5)]
    xy = rng.uniform((8, 8), (width - 9, height - 9), (len(regions), spec.num_keypoints, 2))
    xy[:, 1::2] = np.resize(border, xy[:, 1::2].shape)
    return regions.to_image(xy, spec.grid_hw).astype(np.float64)


@pytest.mark.parametrize("recipe", RECIPES)
def test_points_of_the_image_come_back_within_the_decoders_own_error(recipe):
    spec = RECIPES[recipe]
    regions = Regions.around(BOXES, spec)
    points = points_for(spec, regions)
    heatmap_px = np.abs(
        regions.to_image(np.ones_like(points), spec.grid_hw) - regions.to_image(0 * points, spec.grid_hw)
    )
    inside, border = OWN_ERROR[spec.decoder]
    own = np.where(np.arange(spec.num_keypoints) % 2, border, inside)[:, None]

    for flip_test in (False, True):
        poses = estimate_poses(HostBackend(Reader(spec, points)), coordinates_picture(), BOXES, flip_test=flip_test)

        # a corner grid mirrored is 3/4 of a px off, the published shift by 1 leaves 1/4, and the average half of it
        mirrored = np.array([0.125 if flip_test and spec.crop.alignment == "corner" else 0, 0])
        if flip_test and spec.decoder == "simcc":  # reversed vectors are a bin off, their average half of it
            mirrored[0] = 0.25
        assert (np.abs(poses.xy - points) <= (own + mirrored + READING) * heatmap_px).all()
        assert poses.xyz is None or not poses.xyz[..., 2].any()


def test_the_recipes_are_all_that_are_published():
    specs = [spec for spec in RECIPES.values() if spec.decoder != "simcc"]

    assert {spec.heatmaps.decoder for spec in specs} == set(DECODERS)
    assert {spec.crop.alignment for spec in specs} == {"corner", "udp", "darkpose", "half-pixel"}
    assert {(spec.crop.alignment, spec.heatmaps.flip_shift) for spec in specs} == {
        ("corner", 1),
        ("udp", 0),
        ("darkpose", 0),
        ("half-pixel", 0),
    }
    assert {spec.image.color_order for spec in specs} == {"rgb", "bgr"}
    assert {spec.heatmaps.quarter_guard for spec in specs} == {"joint", "independent", "interior"}
    assert {spec.heatmaps.blur_kernel for spec in specs} == {7, 11, 17}
    assert {
        spec.heatmaps.offset_radius * max(spec.heatmaps.size_hw)
        for spec in specs
        if isinstance(spec.head, HeatmapsWithOffsets)
    } == {3.5, 4, 5.25}


@pytest.mark.parametrize(
    "wrong", [{"flip_shift": 1}, {"alignment": "corner"}, {"color_order": "bgr"}, {"mean": (0.0, 0.0, 0.0)}]
)
def test_a_recipe_read_otherwise_is_noticed(wrong):
    """What the test above can see: a network trained for one recipe, with a passport of another."""
    spec = next(spec for spec in RECIPES.values() if spec.decoder == "udp-combined")
    regions = Regions.around(BOXES, spec)
    points = points_for(spec, regions)
    reader, trained = Reader(spec, points), Reader(spec, points)
    reader.passport = replace(reader.passport, spec=spec.changed(**wrong))
    reader._run = trained._run  # type: ignore[method-assign]
    backend = HostBackend(reader)

    try:
        poses = estimate_poses(backend, coordinates_picture(), BOXES, flip_test=True)
    except (AssertionError, TypeError):
        return  # the picture was not recognised at all

    assert np.abs(poses.xy - points).max() > 2 * READING * (regions.size_wh.max() / min(spec.heatmaps.size_hw))
