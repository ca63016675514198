from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from edgepose.model.heads.heatmaps import COMBINED, DECODERS, HeatmapsWithOffsets
from edgepose.model.spec import ModelSpec, heatmap_spec
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from tests.makers import make_spec
from tests.shared_data import SHARED, needs_shared

BODY = {"name": "body", "input_hw": (256, 192), "heatmap_hw": (64, 48)}
BLURRING = ("dark", "udp")


def one_map(heatmap: np.ndarray, **changes: object) -> np.ndarray:
    """Decode one (h, w) map; (3,) x, y, score."""
    spec = make_spec(heatmap_hw=heatmap.shape, **changes)
    both = np.stack([heatmap, heatmap])[None].astype(np.float32)
    return decode_heatmaps(both, spec)[0, 0]


def gaussian(height: int, width: int, x: float, y: float, sigma: float = 2.0) -> np.ndarray:
    squared = (np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2
    return np.exp(-squared / (2 * sigma**2)).astype(np.float32)


def peak_at(height: int, width: int, **values: float) -> np.ndarray:
    """A map of zeros with values at pixels, given as y_x=value: p3_4=1.0."""
    heatmap = np.zeros((height, width), np.float32)
    for place, value in values.items():
        y, x = map(int, place[1:].split("_"))
        heatmap[y, x] = value
    return heatmap


def log_step(log: np.ndarray, eps: float) -> np.ndarray:
    """UDP's Newton step at the middle of (3, 3) logs; (2,) x, y; none where there is no peak's curvature at all."""
    gradient = np.array([log[1, 2] - log[1, 0], log[2, 1] - log[0, 1]]) / 2
    dxx, dyy = log[1, 2] - 2 * log[1, 1] + log[1, 0], log[2, 1] - 2 * log[1, 1] + log[0, 1]
    dxy = (log[2, 2] - log[1, 2] - log[2, 1] + 2 * log[1, 1] - log[1, 0] - log[0, 1] + log[0, 0]) / 2
    try:
        return -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]]) + eps * np.eye(2)) @ gradient
    except np.linalg.LinAlgError:
        return np.zeros(2)


def published_udp(maps: np.ndarray, decoder: str, kernel: int, radius_px: float = 0.0) -> np.ndarray:
    """mmpose v0's and UDP-Pose's reading of one key point's (1 or 3, h, w) maps, blurred whole; (3,) x, y, score."""
    sides = (2 * kernel + 1, kernel, kernel) if decoder == "udp-combined-v0" else (kernel,)
    blurred = [cv2.GaussianBlur(each, (side, side), 0) for each, side in zip(maps, sides, strict=True)]
    place = blurred[0] if decoder == "udp-combined-v0" else maps[0]
    y, x = np.unravel_index(place.argmax(), place.shape)
    if decoder == "udp-combined-v0":
        return np.array([x + blurred[1][y, x] * radius_px, y + blurred[2][y, x] * radius_px, place.max()])
    scaled = blurred[0].astype(np.float64)
    if decoder == "udp-original":
        if scaled.max() == scaled.min():  # the published formula divides by 0; without a slope there is no step
            return np.array([x, y, place.max()])
        scaled = (scaled - scaled.min()) / (scaled.max() - scaled.min()) * place.max()
    log = np.pad(np.log(np.clip(scaled, 1e-3, 50)), 1, mode="edge")[y : y + 3, x : x + 3]
    eps = 0.0 if decoder == "udp-original" else np.finfo(np.float32).eps
    return np.array([*np.add((x, y), log_step(log, eps)), place.max()])


def slow_newton(heatmap: np.ndarray, decoder: str, kernel: int) -> np.ndarray:
    """The published DARK and UDP steps, of the whole map and one value at a time; (2,) x, y."""
    height, width = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    border = kernel // 2
    blurred = cv2.GaussianBlur(np.pad(heatmap, border), (kernel, kernel), 0)
    blurred = blurred[border : border + height, border : border + width].astype(np.float64)
    blurred *= heatmap.max() / blurred.max()
    if decoder == "dark":
        if not (1 < x < width - 2 and 1 < y < height - 2):
            return np.array([x, y], float)
        log = np.log(np.maximum(blurred, 1e-10))
        gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
        dxy = log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]
        dxx = log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]
        dyy = log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]
        hessian = np.array([[dxx, dxy], [dxy, dyy]]) / 4
    else:
        log = np.pad(np.log(np.clip(blurred, 1e-3, 50)), 1, mode="edge")[y : y + 3, x : x + 3]
        return np.array([x, y]) + log_step(log, np.finfo(np.float32).eps)
    return np.array([x, y]) - np.linalg.solve(hessian, gradient)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(SHARED / "golden" / "decode_64x48.npz"))


@needs_shared
@pytest.mark.parametrize(
    ("decoder", "published", "input_px"),
    [
        ("quarter", "mm_quarter", (4, 4)),
        ("dark", "mm_dark", (4, 4)),
        ("udp", "mm_udp", (192 / 47, 256 / 63)),
        ("udp-combined", "mm_udp_combined", (192 / 47, 256 / 63)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_agrees_with_mmpose(golden, decoder, published, input_px, dtype):
    spec = heatmap_spec(**BODY, decoder=decoder, quarter_guard="independent", blur_kernel=11)
    heatmaps = golden["heatmaps"]
    if decoder == "udp-combined":
        heatmaps = np.concatenate([heatmaps[:, :, None], golden["offsets"]], axis=2).reshape(4, 51, 64, 48)

    keypoints = decode_heatmaps(heatmaps.astype(dtype), spec)

    expected = golden[published]
    seen = expected[..., 2] > 0.05
    assert np.abs(keypoints[..., :2] * input_px - expected[..., :2])[seen].max() <= 1e-3
    np.testing.assert_allclose(keypoints[..., 2], expected[..., 2], atol=1e-6)


EARLIER = ("udp-v0", "udp-original", "udp-combined-v0")  # readings of UDP's maps that were published before mmpose v1


def assert_reads_as_published(maps: np.ndarray, spec: ModelSpec) -> None:
    """`maps` (N, K, 1 or 3, h, w) within 1e-3 heat-map px of the published formula."""
    count = len(maps)

    keypoints = decode_heatmaps(maps.reshape(count, spec.num_maps, *spec.heatmaps.size_hw), spec)

    radius_px = spec.heatmaps.offset_radius * max(spec.heatmaps.size_hw)
    expected = np.array(
        [
            [published_udp(each, spec.heatmaps.decoder, spec.heatmaps.blur_kernel, radius_px) for each in person]
            for person in maps
        ]
    )
    np.testing.assert_allclose(keypoints[..., 2], expected[..., 2], atol=1e-6)
    flat = np.ptp(maps.reshape(*expected.shape[:2], -1, *spec.heatmaps.size_hw)[:, :, 0], axis=(2, 3)) == 0
    seen = (expected[..., 2] > 0.05) & ~flat  # on a flat map gradient and curvature are nothing but rounding
    assert np.abs(keypoints - expected)[seen].max() <= 1e-3
    assert seen.sum() > 10


@needs_shared
@pytest.mark.parametrize("decoder", EARLIER)
@pytest.mark.parametrize("kernel", [7, 11, 17])
def test_reads_the_reference_maps_as_mmpose_v0_and_udp_pose(golden, decoder, kernel):
    spec = heatmap_spec(**BODY, decoder=decoder, blur_kernel=kernel)
    maps = golden["heatmaps"][:, :, None]
    if isinstance(spec.head, HeatmapsWithOffsets):
        maps = np.concatenate([maps, golden["offsets"]], axis=2)

    assert_reads_as_published(maps.astype(np.float32), spec)


@pytest.mark.parametrize("decoder", EARLIER)
@pytest.mark.parametrize("kernel", [1, 3, 7, 9, 11, 17, 31])
def test_reads_any_map_as_mmpose_v0_and_udp_pose(decoder, kernel):
    rng = np.random.default_rng(kernel)
    places = [(0, 0), (23, 31), (0, 15.3), (23, 8), (1.4, 1.2), (21.6, 29.7), (11.5, 0.2), (2.2, 30.8)]
    places += list(rng.uniform(3, 20, (12, 2)))
    spec = make_spec(heatmap_hw=(32, 24), decoder=decoder, blur_kernel=kernel, offset_radius=0.0625)
    maps = rng.uniform(-0.01, 0.01, (20, 2, 3 if isinstance(spec.head, HeatmapsWithOffsets) else 1, 32, 24))
    for person, (x, y) in zip(maps, places, strict=True):
        person += rng.uniform(0.3, 0.9) * gaussian(32, 24, x, y)

    assert_reads_as_published(maps.astype(np.float32), spec)


@needs_shared
def test_the_readings_of_udps_maps_differ(golden):
    found = {}
    for decoder in ("udp", "udp-v0", "udp-original"):
        spec = heatmap_spec(**BODY, decoder=decoder, blur_kernel=7)
        found[decoder] = decode_heatmaps(golden["heatmaps"], spec)

    seen = found["udp"][..., 2] > 0.05
    for one, other in (("udp", "udp-v0"), ("udp", "udp-original"), ("udp-v0", "udp-original")):
        assert np.abs(found[one] - found[other])[seen].max() > 5e-3, (one, other)


@needs_shared
def test_joint_guard_agrees_with_hrnets_final_preds(golden):
    spec = heatmap_spec(**BODY, decoder="quarter", quarter_guard="joint")

    keypoints = decode_heatmaps(golden["heatmaps"], spec)

    step = (golden["leo_scale"][:, :1] * 200 / 48)[:, None]
    xy = (keypoints[..., :2] - (24, 32)) * step + golden["leo_center"][:, None]
    seen = golden["leo_preds"][..., 2] > 0.05
    assert np.abs(xy - golden["leo_preds"][..., :2])[seen].max() <= 1e-3
    np.testing.assert_array_equal(keypoints[..., 2], golden["leo_preds"][..., 2])


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_people_no_keypoints(decoder):
    spec = make_spec(decoder=decoder)

    keypoints = decode_heatmaps(np.empty((0, spec.num_maps, 16, 12), np.float32), spec)

    assert keypoints.shape == (0, 2, 3)
    assert keypoints.dtype == np.float32


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_without_numbers_score_zero_and_raise_nothing(decoder, value):
    spec = make_spec(decoder=decoder)
    heatmaps = np.zeros((3, spec.num_maps, 16, 12), np.float32)
    heatmaps[0] = value
    heatmaps[1, :, 7, 5] = value
    heatmaps[1, :, 8, 6] = 1
    heatmaps[2, :, 8, 6] = 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keypoints = decode_heatmaps(heatmaps, spec)

    assert np.isfinite(keypoints).all()
    assert (keypoints[0] == 0).all()
    assert (keypoints[2, :, 2] > 0).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_map_of_nan_leaves_its_neighbours_alone(decoder):
    spec = make_spec(decoder=decoder)
    heatmaps = np.zeros((3, spec.num_maps, 16, 12), np.float32)
    heatmaps[::2] = gaussian(16, 12, 10.6, 14.6) + gaussian(16, 12, 0.3, 0.3)
    alone = decode_heatmaps(heatmaps, spec)
    heatmaps[1] = np.nan

    np.testing.assert_array_equal(decode_heatmaps(heatmaps, spec)[::2], alone[::2])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_maps_without_a_positive_value_are_at_the_origin_with_their_peak_as_score(decoder, value):
    spec = make_spec(decoder=decoder)

    keypoints = decode_heatmaps(np.full((1, spec.num_maps, 16, 12), value, np.float32), spec)

    np.testing.assert_allclose(keypoints[0], [[0, 0, value]] * 2, atol=1e-6)


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark", "udp"])
def test_a_peak_of_zero_is_no_place(decoder):
    heatmap = np.full((16, 12), -1, np.float32)
    heatmap[8, 5] = 0

    assert one_map(heatmap, decoder=decoder).tolist() == [0, 0, 0]


@pytest.mark.parametrize("decoder", ["argmax", "quarter", "dark", "udp"])
def test_of_equal_peaks_the_first_wins(decoder):
    heatmap = gaussian(16, 12, 9, 12) + gaussian(16, 12, 3, 4)
    heatmap[12, 9] = heatmap[4, 3] = 2

    x, y, score = one_map(heatmap, decoder=decoder)

    assert np.abs([x - 3, y - 4]).max() < 0.3
    assert score == 2


def test_quarter_steps_towards_the_higher_neighbour():
    heatmap = peak_at(16, 12, p7_5=1, p7_6=0.5, p7_4=0.2, p6_5=0.5, p8_5=0.2)

    assert one_map(heatmap, decoder="quarter").tolist() == [5.25, 6.75, 1]
    assert one_map(heatmap, decoder="argmax").tolist() == [5, 7, 1]


@pytest.mark.parametrize(
    ("x", "y", "joint", "independent", "interior"),
    [
        (5, 7, (1, 1), (1, 1), (1, 1)),
        (1, 7, (0, 0), (0, 1), (1, 1)),
        (0, 7, (0, 0), (0, 0), (0, 0)),
        (10, 7, (1, 1), (1, 1), (1, 1)),
        (11, 7, (0, 0), (0, 1), (0, 0)),
        (5, 1, (0, 0), (1, 0), (1, 1)),
        (5, 0, (0, 0), (0, 0), (0, 0)),
        (5, 14, (1, 1), (1, 1), (1, 1)),
        (5, 15, (0, 0), (1, 0), (0, 0)),
        (1, 1, (0, 0), (0, 0), (1, 1)),
        (0, 0, (0, 0), (0, 0), (0, 0)),
        (11, 15, (0, 0), (0, 0), (0, 0)),
    ],
)
def test_quarter_guards_differ_on_the_border_only(x, y, joint, independent, interior):
    # falling to the lower right, so that each step there is goes to the lower right
    heatmap = 1e-3 * (np.arange(12) + np.arange(16)[:, None]).astype(np.float32)
    heatmap[y, x] = 1

    for guard, steps in (("joint", joint), ("independent", independent), ("interior", interior)):
        found = one_map(heatmap, decoder="quarter", quarter_guard=guard)[:2]
        assert found.tolist() == [x + 0.25 * steps[0], y + 0.25 * steps[1]], guard


@pytest.mark.parametrize("decoder", BLURRING)
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 11, 17])
def test_windows_give_what_whole_maps_give(decoder, kernel):
    rng = np.random.default_rng(kernel)
    places = [(0, 0), (23, 31), (0, 15.3), (23, 8), (1.4, 1.2), (21.6, 29.7), (11.5, 0.2), (2.2, 30.8)]
    places += list(rng.uniform(3, 20, (12, 2)))
    maps = np.stack([0.8 * gaussian(32, 24, x, y) for x, y in places]) + rng.uniform(0, 0.01, (20, 32, 24))
    maps = maps.astype(np.float32)
    spec = make_spec(heatmap_hw=(32, 24), decoder=decoder, blur_kernel=kernel)

    keypoints = decode_heatmaps(np.repeat(maps[:, None], 2, axis=1), spec)

    expected = [slow_newton(heatmap, decoder, kernel) for heatmap in maps]
    np.testing.assert_allclose(keypoints[:, 0, :2], expected, atol=1e-3)  # heat-map px


@pytest.mark.parametrize(
    ("decoder", "heatmap"),
    [
        ("dark", peak_at(16, 12, p8_5=1, p8_6=0.5)),  # zeros around it: raised to 1e-10
        ("udp", 0.003 * gaussian(16, 12, 5.3, 7.8, sigma=1)),  # low enough for the floor of 1e-3
        ("udp", 0.0014 * gaussian(16, 12, 5.3, 7.8, sigma=1)),  # a neighbour lies below it
        ("udp", 58 * gaussian(16, 12, 5.3, 7.8)),  # high enough for the ceiling of 50
        ("udp", 0.06 * gaussian(16, 12, 5.3, 7.8, sigma=0.5) - 0.002),
    ],
)
def test_where_the_clamp_binds_the_published_scale_is_kept(decoder, heatmap):
    kernel = 3
    x, y, score = one_map(heatmap, decoder=decoder, blur_kernel=kernel)

    expected = slow_newton(heatmap, decoder, kernel)
    if np.isfinite(expected).all():
        np.testing.assert_allclose([x, y], expected, atol=1e-3)
    assert score == heatmap.max()


@pytest.mark.parametrize("decoder", ["udp-v0", "udp-original"])
@pytest.mark.parametrize("height", [0.0014, 0.003, 58])
def test_the_clamp_binds_on_the_scale_that_was_published(decoder, height):
    heatmap = np.float32(height) * gaussian(16, 12, 5.3, 7.8, sigma=1)

    found = one_map(heatmap, decoder=decoder, blur_kernel=3)

    np.testing.assert_allclose(found, published_udp(heatmap[None], decoder, 3), atol=1e-3)


@pytest.mark.parametrize("x", [0, 1, 2, 9, 10, 11])
@pytest.mark.parametrize("y", [0, 1, 2, 13, 14, 15])
def test_dark_leaves_a_peak_within_two_pixels_of_the_border_where_it_is(x, y):
    heatmap = gaussian(16, 12, x + 0.3, y - 0.2) + 0.01

    found = one_map(heatmap, decoder="dark", blur_kernel=3)

    np.testing.assert_allclose(found[:2], slow_newton(heatmap, "dark", 3), atol=1e-3)
    inside = 2 <= x <= 9 and 2 <= y <= 13
    assert (found[0] != x and found[1] != y) == inside


@pytest.mark.parametrize(
    ("decoder", "error"), [("dark", 0.02), ("udp", 0.02), ("udp-v0", 0.02), ("udp-original", 0.02)]
)
def test_finds_a_gaussian_between_pixels(decoder, error):
    for x, y in [(11, 15), (11.5, 15.5), (10.7, 15.2), (12.49, 13.51)]:
        found = one_map(gaussian(32, 24, x, y), decoder=decoder)

        assert np.abs(found[:2] - (x, y)).max() < error


@pytest.mark.parametrize("decoder", COMBINED)
def test_combined_adds_the_offsets_at_the_peak(decoder):
    spec = make_spec(heatmap_hw=(12, 16), decoder=decoder, offset_radius=0.0625, blur_kernel=1)
    heatmaps = np.zeros((1, 2, 3, 12, 16), np.float32)
    heatmaps[0, :, 0] = gaussian(12, 16, 5, 7)
    heatmaps[0, 0, 1:, 7, 5] = 0.5, -0.25
    heatmaps[0, 1, 1:, 7, 5] = np.nan, np.inf  # no offset is better than none known

    keypoints = decode_heatmaps(heatmaps.reshape(1, 6, 12, 16), spec)

    assert keypoints[0, :, :2].tolist() == [[5.5, 6.75], [5, 7]]  # the offsets' unit is 0.0625 * 16 = 1 px


@pytest.mark.parametrize("decoder", DECODERS)
def test_leaves_its_input_as_it_was(decoder):
    spec = make_spec(decoder=decoder)
    heatmaps = np.random.default_rng(0).random((2, spec.num_maps, 16, 12), np.float32)
    before = heatmaps.copy()

    decode_heatmaps(heatmaps, spec)
    merge_flipped(heatmaps, heatmaps, spec)

    np.testing.assert_array_equal(heatmaps, before)


@pytest.mark.parametrize("decoder", DECODERS)
def test_reads_maps_in_any_memory_order(decoder):
    spec = make_spec(decoder=decoder)
    draw = np.random.default_rng(0).uniform
    maps = [[gaussian(16, 12, draw(2, 9), draw(2, 13)) for _ in range(spec.num_maps)] for _ in range(3)]
    heatmaps = np.array(maps)
    channels_last = np.ascontiguousarray(heatmaps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    keypoints, *others = (decode_heatmaps(each, spec) for each in (heatmaps, channels_last, heatmaps[::-1]))

    # A blur adds up 225 products, in an order that depends on where a person stands among the others: logs are off by
    # 225 / 2**24 at most, and a step is their slope over their curvature, which is 1 / 8 here.
    atol = 8 * 225 / 2**24
    np.testing.assert_allclose(others[0], keypoints, rtol=0, atol=atol)
    np.testing.assert_allclose(others[1][::-1], keypoints, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 3, 16, 12), np.float32), ((2, 16, 12), np.float32), ((1, 2, 16, 12), np.float64)]
)
def test_refuses_what_the_spec_does_not_describe(shape, dtype):
    with pytest.raises(ValueError, match=r"must be \(N, 2, 16, 12\) float32 or float16"):
        decode_heatmaps(np.zeros(shape, dtype), make_spec())


def test_flip_test_turns_back_and_swaps_sides():
    spec = make_spec(heatmap_hw=(2, 4), flip_shift=0)
    heatmaps = np.arange(16, dtype=np.float32).reshape(1, 2, 2, 4)
    of_mirrored_crop = heatmaps[:, ::-1, :, ::-1]

    merged = merge_flipped(heatmaps, of_mirrored_crop, spec)

    np.testing.assert_array_equal(merged, heatmaps)


def test_flip_shift_moves_right_and_keeps_the_first_column():
    spec = make_spec(heatmap_hw=(2, 4), flip_shift=1)
    of_mirrored_crop = np.zeros((1, 2, 2, 4), np.float32)
    of_mirrored_crop[0, 1, 0] = [4, 3, 2, 1]

    merged = merge_flipped(np.zeros((1, 2, 2, 4), np.float32), of_mirrored_crop, spec)

    assert merged[0, 0, 0].tolist() == [0.5, 0.5, 1, 1.5]
    assert not merged[0, 1].any()


@pytest.mark.parametrize("decoder", COMBINED)
def test_flip_test_negates_x_offsets_only(decoder):
    spec = make_spec(heatmap_hw=(2, 2), decoder=decoder, flip_shift=0)
    of_mirrored_crop = np.ones((1, 6, 2, 2), np.float32)

    merged = merge_flipped(of_mirrored_crop, of_mirrored_crop, spec)

    assert merged[0, :, 0, 0].tolist() == [1, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("decoder", DECODERS)
def test_flip_test_takes_no_people_and_float16(decoder):
    spec = make_spec(decoder=decoder)
    for count in (0, 2):
        heatmaps = np.ones((count, spec.num_maps, 16, 12), np.float16)

        merged = merge_flipped(heatmaps, heatmaps, spec)

        assert merged.shape == heatmaps.shape
        assert merged.dtype == np.float32


def test_flip_test_refuses_maps_that_do_not_match():
    with pytest.raises(ValueError, match="differ in shape"):
        merge_flipped(np.zeros((1, 2, 16, 12)), np.zeros((2, 2, 16, 12)), make_spec())
