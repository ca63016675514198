"""decode.cu, run on the CPU, against the numpy reference."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.model.heads.heatmaps import COMBINED, DECODERS, QUARTER_GUARDS, HeatmapsWithOffsets
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import heatmap_spec
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.geometry import Regions
from tests.cuda.on_cpu import before_a_guard_page, drawn_maps, run_decode
from tests.makers import make_spec
from tests.shared_data import SHARED, needs_shared


def compare(found: np.ndarray, wanted: np.ndarray, exact: bool) -> None:
    if exact:
        np.testing.assert_array_equal(found, wanted)
        return
    real = wanted[..., 2] > 0.05  # positions of empty maps mean nothing: ill-conditioned
    np.testing.assert_allclose(found[..., 2], wanted[..., 2], atol=1e-5)
    np.testing.assert_allclose(found[real], wanted[real], atol=1e-3)
    assert real.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_decode_agrees_with_numpy(kernels, decoder, flip, dtype):
    spec = make_spec(heatmap_hw=(20, 16), decoder=decoder, blur_kernel=7)
    heatmaps = drawn_maps(spec, 6, dtype=dtype)
    flipped = drawn_maps(spec, 6, seed=1, dtype=dtype) if flip else None

    found = run_decode(kernels, heatmaps, spec, flipped)

    merged = heatmaps if flipped is None else merge_flipped(heatmaps, flipped, spec)
    compare(found, decode_heatmaps(merged, spec), exact=decoder in ("argmax", "quarter"))


@pytest.mark.parametrize("guard", QUARTER_GUARDS)
@pytest.mark.parametrize("shift", [0, 1])
def test_quarter_guards_and_shifts_agree_to_the_bit(kernels, guard, shift):
    spec = make_spec(heatmap_hw=(5, 5), quarter_guard=guard, flip_shift=shift)  # nearly all of it is border
    heatmaps, flipped = np.random.default_rng(2).random((2, 25, 2, 5, 5), np.float32)
    heatmaps.reshape(25, 2, 25)[np.arange(25), :, np.arange(25)] += 2  # person by person the peak is at each pixel

    found = run_decode(kernels, heatmaps, spec, flipped)

    np.testing.assert_array_equal(found, decode_heatmaps(merge_flipped(heatmaps, flipped, spec), spec))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("heatmap_hw", [(16, 12), (8, 8), (3, 64), (9, 7), (46, 46)])
def test_every_way_of_reading_a_map_agrees_to_the_bit(kernels, heatmap_hw, shift, dtype):
    spec = make_spec(heatmap_hw=heatmap_hw, flip_shift=shift)  # rows of whole 16 bytes, maps of them, and neither
    heatmaps, flipped = np.random.default_rng(5).integers(0, 40, (2, 6, 2, *heatmap_hw)).astype(dtype) / 64  # ties
    heatmaps[0, 0, -1, -1] = flipped[1, 0, 0, 0] = flipped[2, 1, -1, 3] = np.nan

    merged = merge_flipped(heatmaps, flipped, spec)
    np.testing.assert_array_equal(run_decode(kernels, heatmaps, spec), decode_heatmaps(heatmaps, spec))
    np.testing.assert_array_equal(run_decode(kernels, heatmaps, spec, flipped), decode_heatmaps(merged, spec))


def test_maps_at_any_address_agree(kernels):
    spec = make_spec(heatmap_hw=(16, 16))
    bytes_ = np.random.default_rng(6).random(2 * 256 + 1, np.float32)
    heatmaps = bytes_[1:].reshape(1, 2, 16, 16)  # 4 bytes past an address of whole 16 bytes

    np.testing.assert_array_equal(run_decode(kernels, heatmaps, spec), decode_heatmaps(heatmaps, spec))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("heatmap_hw", [(16, 16), (46, 46), (5, 7)])
def test_nothing_beyond_the_maps_is_read(kernels, heatmap_hw, decoder):
    spec = make_spec(heatmap_hw=heatmap_hw, decoder=decoder, blur_kernel=5)
    heatmaps, flipped = (before_a_guard_page(drawn_maps(spec, 2, seed, np.float16)) for seed in (0, 1))
    heatmaps[1, :, -1, -1] = flipped[0, :, -1, 0] = 2  # peaks in corners

    alone, merged = run_decode(kernels, heatmaps, spec), run_decode(kernels, heatmaps, spec, flipped)

    exact = decoder in ("argmax", "quarter")
    compare(alone, decode_heatmaps(heatmaps, spec), exact)
    compare(merged, decode_heatmaps(merge_flipped(heatmaps, flipped, spec), spec), exact)


@pytest.mark.parametrize("decoder", DECODERS)
def test_special_maps_agree(kernels, decoder):
    spec = make_spec(decoder=decoder)
    heatmaps = np.zeros((8, spec.num_maps, 16, 12), np.float32)
    heatmaps[1] = -1
    heatmaps[2] = 0.5
    heatmaps[3, :, 0, 0] = heatmaps[4, :, -1, -1] = 1
    heatmaps[5, :, 8, 6] = np.nan
    heatmaps[6, :, 8, 6] = np.inf
    heatmaps[7] = -np.inf

    found = run_decode(kernels, heatmaps, spec)

    wanted = decode_heatmaps(heatmaps, spec)
    np.testing.assert_allclose(found[..., 2], wanted[..., 2], atol=1e-6)
    if decoder in ("argmax", "quarter"):
        np.testing.assert_array_equal(found, wanted)
    assert np.isfinite(found).all()
    assert (found[[0, 1, 5, 6, 7], :, :2] == 0).all()


def test_faint_maps_are_scaled_back_before_the_clamp(kernels):
    spec = make_spec(heatmap_hw=(20, 16), decoder="udp", blur_kernel=11)
    y, x = np.mgrid[:20, :16]
    heatmaps = np.exp(-((x - 7.3) ** 2 + (y - 9.8) ** 2) / 2)[None, None].repeat(2, axis=1).astype(np.float32)
    heatmaps *= 2e-3  # blurred, every value lies under the clamp

    found = run_decode(kernels, heatmaps, spec)

    wanted = decode_heatmaps(heatmaps, spec)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    np.testing.assert_allclose(wanted[0, 0, :2], [7.3, 9.8], atol=0.05)


def test_of_equal_peaks_the_lowest_index_wins(kernels):
    spec = make_spec(decoder="argmax", heatmap_hw=(64, 48))
    heatmaps = np.zeros((1, 2, 64, 48), np.float32)
    for y, x in ((40, 7), (3, 30), (3, 31), (63, 47)):
        heatmaps[..., y, x] = 1

    assert run_decode(kernels, heatmaps, spec)[0, 0].tolist() == [30, 3, 1]


def test_key_points_are_mapped_to_the_image(kernels):
    spec = make_spec(heatmap_hw=(20, 16), alignment="udp")
    heatmaps = drawn_maps(spec, 3)
    regions = Regions.around(np.array([[20, 10, 90, 110], [-30, -20, 40, 60], [1000, 600, 1900, 1050]]), spec)

    found = run_decode(kernels, heatmaps, spec, regions=regions)

    keypoints = decode_heatmaps(heatmaps, spec)
    np.testing.assert_allclose(found[..., :2], regions.to_image(keypoints[..., :2], spec.heatmaps.size_hw), atol=1e-3)
    np.testing.assert_array_equal(found[..., 2], keypoints[..., 2])


@pytest.mark.parametrize("decoder", COMBINED)
def test_an_offset_that_is_no_number_moves_nothing(kernels, decoder):
    spec = make_spec(decoder=decoder, blur_kernel=1)
    heatmaps = drawn_maps(spec, 1)
    heatmaps[0, 1], heatmaps[0, 5] = np.nan, np.inf  # x offsets of one key point, y offsets of the other

    compare(run_decode(kernels, heatmaps, spec), decode_heatmaps(heatmaps, spec), exact=False)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What reference implementations make of the same heat maps."""
    return dict(np.load(SHARED / "golden" / "decode_64x48.npz"))


@needs_shared
@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp", "udp-combined"])
def test_decode_agrees_with_mmpose(kernels, golden, decoder):
    spec = heatmap_spec("golden", (256, 192), (64, 48), COCO17, decoder=decoder, quarter_guard="independent")
    heatmaps = golden["heatmaps"]
    if decoder == "udp-combined":
        heatmaps = np.concatenate([heatmaps[:, :, None], golden["offsets"]], axis=2).reshape(4, 51, 64, 48)

    found = run_decode(kernels, np.ascontiguousarray(heatmaps), spec)

    wanted = golden[f"mm_{decoder.replace('-', '_')}"]
    px = np.array([192 / 47, 256 / 63] if decoder.startswith("udp") else [4, 4])  # input px of a heat-map px
    real = wanted[..., 2] > 0.05
    assert np.abs(found[..., :2] * px - wanted[..., :2])[real].max() < 1e-3 * 4
    np.testing.assert_allclose(found[..., 2], wanted[..., 2], atol=1e-6)


@needs_shared
@pytest.mark.parametrize("decoder", ["udp-v0", "udp-original", "udp-combined-v0"])
@pytest.mark.parametrize("kernel", [7, 11, 17])
def test_earlier_readings_of_the_reference_maps_agree_with_numpy(kernels, golden, decoder, kernel):
    spec = heatmap_spec("golden", (256, 192), (64, 48), COCO17, decoder=decoder, blur_kernel=kernel)
    heatmaps = golden["heatmaps"]
    if isinstance(spec.head, HeatmapsWithOffsets):
        heatmaps = np.concatenate([heatmaps[:, :, None], golden["offsets"]], axis=2).reshape(4, 51, 64, 48)

    found = run_decode(kernels, np.ascontiguousarray(heatmaps), spec)

    wanted = decode_heatmaps(heatmaps, spec)
    flat = np.ptp(golden["heatmaps"], axis=(2, 3)) == 0  # slope and curvature are the rounding of sums, in any order
    found[flat, :2] = wanted[flat, :2]
    compare(found, wanted, exact=False)


@needs_shared
def test_decode_agrees_with_hrnets_final_preds_in_the_image(kernels, golden):
    spec = heatmap_spec("golden", (256, 192), (64, 48), COCO17, decoder="quarter", quarter_guard="joint")
    size_wh = golden["leo_scale"][:, :1] * 200 * (1, 256 / 192)
    regions = Regions(golden["leo_center"].astype(np.float64), size_wh.astype(np.float64), "corner")

    found = run_decode(kernels, golden["heatmaps"], spec, regions=regions)

    real = golden["leo_preds"][..., 2] > 0.05
    np.testing.assert_allclose(found[real], golden["leo_preds"][real], atol=1e-3)
