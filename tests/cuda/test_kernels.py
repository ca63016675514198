"""The CUDA kernels' own source, run on the CPU, against the numpy reference; and compiled for every target."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.cuda.kernels import (
    FOLDER,
    LARGEST_BLUR,
    TARGETS,
    blur_weights,
    compile_kernels,
    crop_grid,
    decode_arguments,
    decode_grid,
    find_nvcc,
    normalise_factors,
    peaks_grid,
    to_image_factors,
)
from edgepose.decode import decode_heatmaps, merge_flipped
from edgepose.errors import BuildError
from edgepose.geometry import Regions
from edgepose.passport import DECODERS, ModelSpec
from edgepose.peaks import LARGEST_TOP_K, find_peaks
from edgepose.preprocess import cut_out, mirror
from edgepose.skeletons import COCO17
from tests.makers import make_spec, smooth_image
from tests.nvcc import needs_nvcc
from tests.shared_data import SHARED, needs_shared

pytestmark = needs_nvcc  # its headers hold the FP16 type that the CPU build uses too

FORMATS = {"rgb": 0, "bgr": 1, "nv12": 2}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels as functions of this process."""
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    include = Path(find_nvcc()).resolve().parent.parent / "include"
    if not (include / "cuda_fp16.h").is_file():
        include = Path("/usr/local/cuda/include")
    here = Path(__file__).parent
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-DEDGEPOSE_ON_CPU", "-pthread"]
    subprocess.run(
        [*command, "-isystem", include, f"-I{FOLDER}", f"-I{here}", here / "on_cpu.cpp", "-o", library], check=True
    )
    return ctypes.CDLL(str(library))


def pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def launch(block: tuple[int, int, int], grid: tuple[int, int, int]) -> ctypes.Array[ctypes.c_int]:
    return (ctypes.c_int * 6)(*block, *grid)


def run_decode(
    kernels: ctypes.CDLL, heatmaps: np.ndarray, spec: ModelSpec, flipped: np.ndarray | None = None
) -> np.ndarray:
    keypoints = np.full((len(heatmaps), spec.num_keypoints, 3), 99, np.float32)
    flip_order, weights = np.array(spec.skeleton.flip_order, np.int32), blur_weights(spec)
    function = kernels.run_decode_f16 if heatmaps.dtype == np.float16 else kernels.run_decode_f32
    decoder, guard, shift, kernel, offset_px = decode_arguments(spec)
    function(
        pointer(heatmaps),
        pointer(flipped),
        pointer(flip_order),
        pointer(weights),
        pointer(None),
        pointer(keypoints),
        spec.num_keypoints,
        *spec.heatmap_hw,
        decoder,
        guard,
        shift,
        kernel,
        ctypes.c_float(offset_px),
        launch(*decode_grid(spec, len(heatmaps))[:2]),
    )
    return keypoints


def run_crop(
    kernels: ctypes.CDLL,
    frame: np.ndarray,
    frame_hw: tuple[int, int],
    frame_format: str,
    regions: Regions,
    spec: ModelSpec,
    dtype: type = np.float32,
) -> tuple[np.ndarray, np.ndarray]:
    """Crops and mirrored crops."""
    crops = np.zeros((len(regions), 3, *spec.input_hw), dtype)
    mirrored = np.zeros_like(crops)
    factors, normalise = to_image_factors(regions, spec.input_hw), normalise_factors(spec)
    function = kernels.run_crop_f16 if dtype == np.float16 else kernels.run_crop_f32
    function(
        pointer(frame),
        frame.strides[0],
        *frame_hw,
        FORMATS[frame_format],
        pointer(factors),
        pointer(normalise),
        int(spec.color_order == "bgr"),
        pointer(crops),
        pointer(mirrored),
        *spec.input_hw,
        launch(*crop_grid(spec, len(regions))),
    )
    return crops, mirrored


def run_peaks(
    kernels: ctypes.CDLL, heatmaps: np.ndarray, window: int, threshold: float, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    peaks = np.full((*heatmaps.shape[:2], top_k, 3), 99, np.float32)
    counts = np.full(heatmaps.shape[:2], 99, np.int32)
    function = kernels.run_peaks_f16 if heatmaps.dtype == np.float16 else kernels.run_peaks_f32
    function(
        pointer(heatmaps),
        pointer(peaks),
        pointer(counts),
        *heatmaps.shape[2:],
        window,
        ctypes.c_float(threshold),
        top_k,
        launch(*peaks_grid(counts.size)),
    )
    return peaks, counts


def drawn_maps(spec: ModelSpec, people: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """Peaks on, near and beyond the border, some doubled, over a little noise."""
    generator = np.random.default_rng(seed)
    height, width = spec.heatmap_hw
    y, x = np.mgrid[:height, :width]
    maps = generator.normal(0, 0.01, (people, spec.output_channels, height, width))
    for person in range(people):
        for channel in range(spec.output_channels):
            for _ in range(generator.integers(1, 3)):
                cx, cy = generator.uniform(-1, width), generator.uniform(-1, height)
                maps[person, channel] += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) * generator.uniform(0.3, 1)
    return maps.astype(dtype)


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


@pytest.mark.parametrize("guard", ["joint", "independent"])
@pytest.mark.parametrize("shift", [0, 1])
def test_quarter_guards_and_shifts_agree_to_the_bit(kernels, guard, shift):
    spec = make_spec(heatmap_hw=(5, 5), quarter_guard=guard, flip_shift=shift)  # nearly all of it is border
    heatmaps, flipped = np.random.default_rng(2).random((2, 60, 2, 5, 5), np.float32)

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
def test_special_maps_agree(kernels, decoder):
    spec = make_spec(decoder=decoder)
    heatmaps = np.zeros((8, spec.output_channels, 16, 12), np.float32)
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


@needs_shared
@pytest.mark.parametrize(("decoder", "guard"), [("quarter", "independent"), ("dark", "joint"), ("udp", "joint")])
def test_decode_agrees_with_the_reference_implementations(kernels, decoder, guard):
    golden = np.load(SHARED / "golden" / "decode_64x48.npz")
    spec = ModelSpec("golden", (256, 192), (64, 48), COCO17, decoder=decoder, quarter_guard=guard)

    found = run_decode(kernels, golden["heatmaps"], spec)

    wanted = golden[f"mm_{decoder}"]
    px = np.array([192 / 47, 256 / 63] if decoder == "udp" else [4, 4])  # input px of a heat-map px
    real = wanted[..., 2] > 0.05
    assert np.abs(found[..., :2] * px - wanted[..., :2])[real].max() < 1e-3 * 4
    np.testing.assert_allclose(found[..., 2], wanted[..., 2], atol=1e-6)


BOXES = np.array([[20, 10, 90, 110], [-30, -20, 40, 60], [100, 60, 200, 150], [500, 500, 600, 700], [3, 3, 4, 5]])


@pytest.mark.parametrize("alignment", ["corner", "udp", "darkpose", "half-pixel"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_crops_agree_to_one_grey_level(kernels, alignment, order):
    spec = make_spec(alignment=alignment, color_order=order)
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, mirrored = run_crop(kernels, image, image.shape[:2], "rgb", regions, spec)

    wanted = cut_out(image, regions, spec)
    levels = np.abs(crops - wanted) * np.array(spec.std, np.float32)[:, None, None]
    assert levels.max() <= (1 if int(cv2.__version__.split(".")[0]) >= 5 else 2)  # OpenCV 4 rounds positions as well
    np.testing.assert_array_equal(mirrored, mirror(crops))


def test_a_bgr_frame_with_padded_rows_gives_the_same_crops(kernels):
    spec = make_spec()
    image, regions = smooth_image(), Regions.around(BOXES, spec)
    padded = np.zeros((120, 512), np.uint8)
    padded[:, : 160 * 3] = image[..., ::-1].reshape(120, -1)

    crops, _ = run_crop(kernels, padded, (120, 160), "bgr", regions, spec)

    np.testing.assert_array_equal(crops, run_crop(kernels, image, (120, 160), "rgb", regions, spec)[0])


def test_a_crop_of_odd_width_is_whole_too(kernels):
    spec = make_spec(input_hw=(31, 67))
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, mirrored = run_crop(kernels, image, image.shape[:2], "rgb", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.std, np.float32)[:, None, None]
    assert levels.max() <= (1 if int(cv2.__version__.split(".")[0]) >= 5 else 2)
    np.testing.assert_array_equal(mirrored, mirror(crops))


@pytest.mark.parametrize("frame_hw", [(1, 1), (1, 9), (7, 1), (2, 2)])
def test_tiny_frames_agree(kernels, frame_hw):
    spec = make_spec()
    image = np.random.default_rng(3).integers(0, 256, (*frame_hw, 3), np.uint8)
    regions = Regions.around(np.array([[0, 0, frame_hw[1], frame_hw[0]], [-1, -2, 3, 4]]), spec)

    crops, _ = run_crop(kernels, image, frame_hw, "rgb", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.std, np.float32)[:, None, None]
    assert levels.max() <= 5  # cv2 rounds positions to 1/32 px, and noise has steps of up to 255 a pixel


@pytest.mark.parametrize("frame_format", FORMATS)
def test_a_region_that_is_not_finite_or_far_outside_is_black(kernels, monkeypatch, frame_format):
    spec = make_spec()
    frame = np.full((180, 480), 200, np.uint8)
    factors = np.array([[1, 1, np.nan, 0], [np.inf, 1, 0, 0], [1, 1, 0, -np.inf], [1, 1, 3e38, 0], [1, 1, 160, 0]])
    monkeypatch.setattr("tests.cuda.test_kernels.to_image_factors", lambda *_: factors.astype(np.float32))

    crops, _ = run_crop(kernels, frame, (120, 160), frame_format, Regions.around(BOXES, spec), spec)

    black = (-np.array(spec.mean) / np.array(spec.std)).astype(np.float32)[:, None, None]
    np.testing.assert_array_equal(crops, np.broadcast_to(black, crops.shape))


@pytest.mark.parametrize("frame_hw", [(9, 11), (8, 11), (9, 12)])
def test_an_nv12_frame_of_odd_size_has_its_chroma_rounded_up(kernels, frame_hw):
    spec = make_spec(input_hw=frame_hw)
    height, width = frame_hw
    even_h, even_w = height + height % 2, width + width % 2
    generator = np.random.default_rng(4)
    luma, chroma = generator.integers(60, 180, (even_h, even_w)), generator.integers(110, 146, (even_h // 2, even_w))
    whole = np.asarray(cv2.cvtColor(np.concatenate([luma, chroma]).astype(np.uint8), cv2.COLOR_YUV2RGB_NV12))
    frame = np.concatenate([luma[:height], chroma]).astype(np.uint8)
    regions = Regions(np.array([[width / 2, height / 2]]), np.array([[width, height]]), "corner")  # pixel for pixel

    crops, _ = run_crop(kernels, frame, frame_hw, "nv12", regions, spec)

    levels = crops * np.array(spec.std)[:, None, None] + np.array(spec.mean)[:, None, None]
    assert np.abs(levels[0] - whole[:height, :width].transpose(2, 0, 1)).max() <= 0.51  # cv2 rounds to whole levels


def test_fp16_crops_are_the_rounded_fp32_crops(kernels):
    spec = make_spec()
    image, regions = smooth_image(), Regions.around(BOXES, spec)

    crops, _ = run_crop(kernels, image, (120, 160), "rgb", regions, spec, np.float16)

    wanted = run_crop(kernels, image, (120, 160), "rgb", regions, spec)[0].astype(np.float16)
    np.testing.assert_array_equal(crops, wanted)


def test_an_nv12_frame_needs_no_conversion_pass(kernels):
    spec = make_spec()
    frame = np.random.default_rng(0).integers(0, 256, (180, 160), np.uint8)  # every value, legal or not
    frame = cv2.GaussianBlur(frame, (9, 9), 0)
    image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12))
    regions = Regions.around(BOXES, spec)

    crops, _ = run_crop(kernels, frame, (120, 160), "nv12", regions, spec)

    levels = np.abs(crops - cut_out(image, regions, spec)) * np.array(spec.std, np.float32)[:, None, None]
    assert levels.max() <= 1.5  # the reference rounds twice: to RGB, then to the crop


def assert_same_peaks(kernels: ctypes.CDLL, heatmaps: np.ndarray, window: int, threshold: float, top_k: int) -> None:
    peaks, counts = run_peaks(kernels, heatmaps, window, threshold, top_k)

    wanted_peaks, wanted_counts = find_peaks(heatmaps, window, threshold, top_k)
    np.testing.assert_array_equal(counts, wanted_counts)
    np.testing.assert_array_equal(peaks, wanted_peaks)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("window", "threshold", "top_k"), [(5, 0.1, 30), (3, 0.3, 2), (1, -0.01, 40), (41, 0.1, 5)])
def test_peaks_agree_to_the_bit(kernels, window, threshold, top_k, dtype):
    heatmaps = drawn_maps(make_spec(heatmap_hw=(37, 29)), 3, dtype=dtype)

    assert_same_peaks(kernels, heatmaps, window, threshold, top_k)


@pytest.mark.parametrize("top_k", [1, 4, LARGEST_TOP_K])
def test_any_number_of_peaks_fits(kernels, top_k):
    ramp = np.arange(70 * 80, dtype=np.float32).reshape(70, 80)  # with a window of 1 each pixel is a peak
    plateau, checks = np.full((70, 80), 2, np.float32), np.indices((70, 80)).sum(axis=0) % 2 + np.float32(1)

    assert_same_peaks(kernels, np.stack([ramp, -ramp, plateau, checks.astype(np.float32)])[None], 1, -1e9, top_k)


@pytest.mark.parametrize("threshold", [0.1, -2.0, -np.inf, np.inf])
def test_peaks_of_special_maps_agree(kernels, threshold):
    heatmaps = np.zeros((1, 9, 6, 7), np.float32)
    heatmaps[0, 1] = np.nan
    heatmaps[0, 2] = -np.inf
    heatmaps[0, 3] = np.random.default_rng(0).normal(size=(6, 7)) - 5  # negative throughout
    heatmaps[0, 4, 2, 3], heatmaps[0, 4, 2, 5], heatmaps[0, 4, 0, 0] = np.nan, 1, 1
    heatmaps[0, 5, 2, 3], heatmaps[0, 5, 2, 5], heatmaps[0, 5, 0, 0] = np.inf, 1, 1
    heatmaps[0, 6, 2, 3], heatmaps[0, 6, 2, 5] = -np.inf, 1
    heatmaps[0, 7, ::5, ::6] = 1  # the corners
    heatmaps[0, 8, 1] = -0.0  # ties with 0

    assert_same_peaks(kernels, heatmaps, 5, threshold, 50)


def test_random_maps_full_of_ties_have_the_same_peaks(kernels):
    generator = np.random.default_rng(8)
    for _ in range(20):
        height, width, window = generator.integers(1, 30), generator.integers(1, 30), 2 * generator.integers(0, 4) + 1
        heatmaps = generator.integers(-3, 4, (1, 3, height, width)).astype(np.float16) / 4

        assert_same_peaks(kernels, heatmaps, int(window), float(generator.integers(-4, 3) / 4), 9)


@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles_for_every_target_without_warning_or_spill(target):
    compiled = compile_kernels([target])

    assert compiled.warnings == ()
    assert {use.name for use in compiled.uses} == {
        f"{name}_{kind}" for name in ("crop", "decode", "peaks") for kind in ("f16", "f32")
    }
    for use in compiled.uses:
        assert use.target == target
        assert use.spilled_bytes == 0
        assert 0 < use.registers <= 64


def test_one_module_holds_the_code_of_several_targets():
    compiled = compile_kernels(["sm_75", "sm_87"])

    assert compiled.fatbin[:4] == b"\x50\xed\x55\xba"  # a fat binary's mark
    assert {use.target for use in compiled.uses} == {"sm_75", "sm_87"}


def test_spills_and_compiler_warnings_are_told(tmp_path, monkeypatch):
    (tmp_path / "spills.cu").write_text(
        """extern "C" __global__ void __launch_bounds__(1024, 2) f32(const float* in, float* out) {
        float kept[64]; int unused;
        for (int i = 0; i < 64; ++i) kept[i] = in[i * 1024 + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < 64; ++i) out[i * 1024 + threadIdx.x] = kept[63 - i] * kept[i]; }"""
    )
    monkeypatch.setattr("edgepose.cuda.kernels.FOLDER", tmp_path)

    compiled = compile_kernels(["sm_80"], "spills.cu")

    assert compiled.uses[0].spilled_bytes > 0
    assert any("never referenced" in warning for warning in compiled.warnings)
    assert any("spill" in warning.lower() for warning in compiled.warnings)


def test_what_nvcc_refuses_is_one_error():
    with pytest.raises(BuildError, match=r"compute_12.*list-gpu-code"):
        compile_kernels(["sm_12"])


def test_a_blur_too_wide_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match=str(LARGEST_BLUR)):
        blur_weights(make_spec(decoder="dark", blur_kernel=LARGEST_BLUR + 2))


def test_a_launch_covers_every_pixel_and_map():
    spec = make_spec(input_hw=(257, 193), heatmap_hw=(64, 48))

    assert crop_grid(spec, 3) == ((32, 8, 1), (4, 33, 3))  # a block makes 64 x 8 pixels
    assert decode_grid(spec, 3) == ((128, 1, 1), (3 * spec.num_keypoints, 1, 1), 0)
    combined = make_spec(heatmap_hw=(64, 48), decoder="udp-combined")
    assert decode_grid(combined, 1)[2] == 64 * 48 * 4


@pytest.mark.parametrize("count", [0, 65536])
def test_no_launch_of_nobody_or_of_more_than_a_grid_holds(count):
    for grid in (crop_grid, decode_grid):
        with pytest.raises(ValueError, match=f"65535 people, got {count}"):
            grid(make_spec(), count)
    with pytest.raises(ValueError, match="at least one map"):
        peaks_grid(0)


def test_maps_larger_than_shared_memory_are_refused():
    with pytest.raises(ValueError, match="10240 px"):
        decode_grid(make_spec(decoder="udp-combined", heatmap_hw=(128, 96)), 1)
