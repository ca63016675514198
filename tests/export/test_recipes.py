"""How a checkpoint's style and the options become the recipe in the passport."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgepose.errors import CheckpointError
from edgepose.export.networks import hourglass52
from edgepose.export.networks.hourglass52 import Hourglass52
from edgepose.export.networks.simple_baseline import SimpleBaseline
from edgepose.export.networks.stacked_hourglass import PrincetonHourglass
from edgepose.export.pipeline import export_model, randomize
from edgepose.export.zoo.find import find_model
from edgepose.export.zoo.model import ChoiceError, Model
from edgepose.model.passport import read_passport
from edgepose.model.skeletons import MPII16
from edgepose.model.spec import heatmap_spec
from tests.makers import TWO_POINTS


def small_model(**recipe: object) -> Model:
    """A SimpleBaseline of a few thousand weights, at DarkPose's larger input height."""
    values = {"name": "small", "input_hw": (384, 32), "heatmap_hw": (96, 8), "skeleton": TWO_POINTS, **recipe}
    spec = heatmap_spec(**values)  # type: ignore[arg-type]

    def build(style: str) -> SimpleBaseline:
        return SimpleBaseline(18, spec.num_maps, planes=(4, 4, 4, 4), deconv_filters=4)

    return Model("small", "coco", spec, build, gflops=0.1, params=1)


@pytest.fixture
def one_stack() -> Model:
    """One hourglass in either form, at an input small enough for a test."""
    model = find_model("stacked_hourglass_1")
    return replace(model, spec=model.spec.changed(input_hw=(64, 64), heatmap_hw=(16, 16)))


def test_the_checkpoint_decides_whose_hourglass_it_is(one_stack, tmp_path):
    torch.manual_seed(0)
    state = {f"model.module.{key}": value for key, value in PrincetonHourglass(1, len(MPII16)).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "checkpoint.pt")

    exported = export_model(one_stack, tmp_path, weights=str(tmp_path / "checkpoint.pt"))

    assert exported.fp32.name == "stacked_hourglass_1_mpii_64x64_princeton.onnx"
    spec = read_passport(exported.fp32).spec
    assert (spec.image.mean, spec.image.std) == ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    assert (spec.crop.alignment, spec.heatmaps.flip_shift, spec.heatmaps.quarter_guard) == ("half-pixel", 0, "interior")


def test_bearpaws_pixels_lose_their_mean_and_are_not_divided_by_the_deviation(one_stack):
    spec = one_stack.spec.changed(**one_stack.recipes["bearpaw"])

    crops = (np.array([255, 0, 51]) - spec.image.mean) / spec.image.std

    np.testing.assert_allclose(crops, [1 - 0.4404, -0.4440, 0.2 - 0.4327])
    assert (spec.image.color_order, spec.crop.alignment, spec.heatmaps.flip_shift) == ("rgb", "half-pixel", 0)


def test_the_form_that_is_asked_for_must_fit(one_stack, tmp_path):
    torch.save(PrincetonHourglass(1, len(MPII16)).state_dict(), tmp_path / "checkpoint.pt")

    with pytest.raises(
        CheckpointError, match=r"it looks like stacked_hourglass_1 in princeton style .*: leave out .* --style"
    ):
        export_model(one_stack, tmp_path, weights=str(tmp_path / "checkpoint.pt"), style="bearpaw")


def test_weights_of_darkpose_bring_its_alignment_blur_and_flip(tmp_path):
    exported = export_model(small_model(), tmp_path, weights="random", decoder="dark", alignment="darkpose")

    assert exported.fp32.name == "small_coco_384x32_dark_darkpose.onnx"
    assert (exported.spec.crop.alignment, exported.spec.heatmaps.flip_shift, exported.spec.heatmaps.blur_kernel) == (
        "darkpose",
        0,
        17,
    )


@pytest.mark.parametrize("alignment", ["corner", "darkpose"])
def test_an_alignment_that_contradicts_the_recipe_is_refused(alignment, tmp_path):
    model = small_model(alignment="udp", decoder="udp", flip_shift=0)

    with pytest.raises(ValueError, match=f"has udp alignment, not {alignment}"):
        export_model(model, tmp_path, weights="random", alignment=alignment)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "origin", "decoder", "height", "color", "guard", "blur"),
    [
        ("hrnet_w32", "original", "quarter", 256, "rgb", "joint", 11),
        ("hrnet_w32", "mmpose_v0", "dark", 256, "rgb", "joint", 11),
        ("hrnet_w32", "mmpose_v0", "dark", 384, "rgb", "joint", 17),
        ("hrnet_w32", "mmpose_v0", "udp", 384, "rgb", "joint", 17),
        ("hrnet_w32", "mmpose_v0", "udp-combined", 256, "rgb", "joint", 11),
        ("hrnet_w32", "mmpose_v1", "dark", 384, "rgb", "independent", 11),
        ("hrnet_w32", "mmpose_v1", "udp", 384, "rgb", "independent", 11),
        ("hrnet_w32", "original", "udp", 256, "rgb", "joint", 7),
        ("hrnet_w48", "original", "udp", 384, "rgb", "joint", 7),
        ("hrnet_w48", "original", "udp-combined", 256, "rgb", "joint", 7),
        ("simplebaseline_resnet101", "original", "quarter", 256, "bgr", "joint", 11),
        ("simplebaseline_resnet50", "mmpose_v0", "dark", 256, "rgb", "joint", 11),
        ("simplebaseline_resnet152", "mmpose_v0", "dark", 384, "rgb", "joint", 17),
        ("simplebaseline_resnet50", "mmpose_v1", "dark", 384, "rgb", "independent", 11),
    ],
)
def test_each_publisher_has_a_recipe_of_its_own(name, origin, decoder, height, color, guard, blur):
    model = find_model(name, input_hw=(height, height * 3 // 4), decoder=decoder)

    spec = model.spec.changed(**model.recipes[origin])

    assert (spec.image.color_order, spec.heatmaps.quarter_guard, spec.heatmaps.blur_kernel) == (color, guard, blur)


@pytest.mark.parametrize(
    ("width", "height", "decoder", "v0", "original", "unit_px"),
    [
        (32, 256, "udp", "udp-v0", "udp-original", None),
        (48, 384, "udp", "udp-v0", "udp-original", None),
        (32, 256, "udp-combined", "udp-combined-v0", "udp-combined-v0", 3.5),
        (48, 256, "udp-combined", "udp-combined-v0", "udp-combined-v0", 4),
        (32, 384, "udp-combined", "udp-combined-v0", "udp-combined-v0", 4),
    ],
)
def test_each_publisher_reads_udps_maps_in_a_way_of_its_own(width, height, decoder, v0, original, unit_px):
    model = find_model(f"hrnet_w{width}", input_hw=(height, height * 3 // 4), decoder=decoder)

    found = {origin: model.spec.changed(**recipe) for origin, recipe in model.recipes.items()}

    decoders = {origin: spec.heatmaps.decoder for origin, spec in found.items()}
    assert decoders == {"mmpose_v0": v0, "original": original, "mmpose_v1": decoder}
    if unit_px:
        px = {origin: spec.heatmaps.offset_radius * max(spec.heatmaps.size_hw) for origin, spec in found.items()}
        of_mmpose = height / 4 * 0.0546875
        assert px == pytest.approx({"mmpose_v0": of_mmpose, "mmpose_v1": of_mmpose, "original": unit_px})


@pytest.mark.parametrize(
    ("asked", "written"),
    [(None, "udp-original"), ("udp", "udp-original"), ("udp-v0", "udp-v0"), ("quarter", "quarter")],
)
def test_a_checkpoint_is_read_as_its_publisher_does_unless_a_reading_is_asked_for(tmp_path, asked, written):
    recipes = {"original": {"decoder": "udp-original", "blur_kernel": 7}}
    model = replace(small_model(alignment="udp", decoder="udp", flip_shift=0), recipes=recipes)
    torch.save(model.build("pytorch").state_dict(), tmp_path / "pose.pth")

    exported = export_model(model, tmp_path, weights=str(tmp_path / "pose.pth"), decoder=asked)

    assert exported.fp32.name == "_".join(["small_coco_384x32", *[written] * (written != "quarter")]) + ".onnx"
    spec = read_passport(exported.fp32).spec
    assert (spec.heatmaps.decoder, spec.heatmaps.blur_kernel) == (written, 7)


@pytest.mark.parametrize(
    ("decoder", "trained", "channels"),
    [("udp-v0", "udp", 17), ("udp-original", "udp", 17), ("udp-combined-v0", "udp-combined", 51)],
)
def test_a_reading_that_is_asked_for_is_that_of_every_origin(decoder, trained, channels):
    model = find_model("hrnet_w32", decoder=decoder)

    assert model.published == find_model("hrnet_w32", decoder=trained).published
    assert model.spec.num_maps == channels
    assert {model.spec.changed(**recipe).heatmaps.decoder for recipe in model.recipes.values()} == {decoder}


@pytest.mark.parametrize("decoder", ["udp", "udp-v0", "udp-combined"])
def test_a_reading_of_udps_maps_is_for_networks_trained_for_them(decoder):
    with pytest.raises(ChoiceError, match=f"was not trained for the {decoder} decoder"):
        find_model("cpm", decoder=decoder)


@pytest.mark.parametrize("name", ["simplebaseline_resnet50", "hrnet_w48"])
def test_v0s_blur_goes_with_its_file_even_where_only_its_name_says_dark(name):
    plain = find_model(name, input_hw=(384, 288))  # the entry that `--model NAME --input 384x288` takes

    assert plain.spec.changed(**plain.recipes["mmpose_v0"], decoder="dark").heatmaps.blur_kernel == 17


def test_random_weights_suit_the_network_that_halves_most_often(monkeypatch):
    monkeypatch.setattr(hourglass52, "CHANNELS", (4, 4, 4, 4, 4, 4))
    network = Hourglass52(2)

    randomize(network, find_model("hourglass52").spec)

    with torch.inference_mode():
        heatmaps = np.asarray(network(torch.zeros(1, 3, 128, 256)))
    assert heatmaps.shape == (1, 2, 32, 64)
    assert np.isfinite(heatmaps).all()
