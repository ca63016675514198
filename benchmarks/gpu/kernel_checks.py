"""Every kernel on the GPU against its numpy twin, on drawn inputs and on those of reference implementations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edgepose.benchmarks.gpu.launch import Kernels
from edgepose.benchmarks.gpu.map_checks import map_checks
from edgepose.benchmarks.gpu.rows import Check, Finding, SkippedError
from edgepose.evaluation.plan_inputs import as_frame
from edgepose.model.heads.heatmaps import DECODERS
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.skeletons import COCO17
from edgepose.model.spec import ALIGNMENTS, ModelSpec, heatmap_spec
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.decode import decode_heatmaps, merge_flipped
from edgepose.stages.frames import FORMATS, YUVS
from edgepose.stages.geometry import Regions
from edgepose.stages.peaks import find_peaks
from edgepose.stages.simcc import decode_depth, decode_simcc, merge_flipped_simcc
from edgepose.stages.volume import decode_volume

SPEC = heatmap_spec("acceptance", (256, 192), (64, 48), COCO17)
EXACT = ("argmax", "quarter")
PX, SCORE = 1e-3, 1e-5  # largest differences of the other decoders
CELLS = 1e-4  # sums of float32 in another order
CONFIDENT = 0.05  # positions of lower peaks are ill-conditioned
GREY = 1.0 if int(cv2.__version__.split(".")[0]) >= 5 else 2.0  # OpenCV 4 rounds positions to 1/32 px as well
HALF_GREY = 0.1  # what rounding a crop to FP16 adds
NV12_GREY = 0.5  # the reference rounds to RGB first
PEOPLE = 8
FRAME_HW = (270, 480)


def kernel_checks(kernels: Kernels, golden: Path | None) -> Iterator[Check]:
    """All checks of kernels; golden: the folder that holds decode_64x48.npz."""
    for frame_format in (*FORMATS, *(f"nv12 {yuv}" for yuv in YUVS[1:])):
        for dtype in (np.float32, np.float16):
            name = f"crop {frame_format.upper()} to {np.dtype(dtype).name}, mirrored too"
            yield name, partial(check_crop, kernels, frame_format, dtype)
    for decoder in DECODERS:
        for dtype in (np.float32, np.float16):
            name = f"decode {decoder}, {np.dtype(dtype).name}"
            yield f"{name}, one run", partial(check_decode, kernels, decoder, dtype, flip=False)
            yield f"{name}, flip test", partial(check_decode, kernels, decoder, dtype, flip=True)
    yield "decode: empty, flat, infinite and NaN maps", partial(check_special_maps, kernels)
    yield "decode: key points in the image", partial(check_mapping, kernels)
    for decoder in ("quarter", "dark", "udp", "udp-combined"):
        yield f"decode {decoder} against mmpose", partial(check_golden, kernels, golden, decoder)
    for dtype in (np.float32, np.float16):
        yield f"peaks, {np.dtype(dtype).name}", partial(check_peaks, kernels, dtype)
        yield f"simcc and depth, {np.dtype(dtype).name}", partial(check_simcc, kernels, dtype)
        yield f"volume, {np.dtype(dtype).name}", partial(check_volume, kernels, dtype)
    yield from map_checks(kernels)


def check_crop(kernels: Kernels, frame_format: str, dtype: type) -> Finding:
    """Crops of a smooth frame in every alignment and colour order; regions reach outside."""
    image = smooth_image(*FRAME_HW)
    frame, seen = as_frame(image, *frame_format.split())
    boxes = np.array([[20, 10, 90, 200], [-60, -20, 80, 160], [400, 160, 520, 300], [3, 3, 9, 14], [900, 9, 950, 80]])
    levels, mirrored_right = [], True
    for alignment in ALIGNMENTS:
        for order in ("rgb", "bgr"):
            spec = SPEC.changed(alignment=alignment, color_order=order)
            regions = Regions.around(boxes, spec)
            crops, mirrored = kernels.run(kernels.crop(frame, regions, spec, dtype))
            difference = np.abs(crops.astype(np.float32) - cut_out(seen, regions, spec))
            levels.append((difference * np.array(spec.image.std, np.float32)[:, None, None]).max())
            mirrored_right &= bool(np.array_equal(mirrored, mirror(crops)))
    limit = GREY + NV12_GREY * (frame.format == "nv12") + HALF_GREY * (dtype is np.float16)
    found = f"{max(levels):.3f} grey levels at most, mirrored crops {'the same' if mirrored_right else 'WRONG'}"
    return Finding(bool(max(levels) <= limit) and mirrored_right, found, f"{limit:g} grey levels, the same")


def check_decode(kernels: Kernels, decoder: str, dtype: type, *, flip: bool) -> Finding:
    """Drawn maps, of the usual size and of one whose rows are no whole 16 bytes."""
    specs = [SPEC.changed(decoder=decoder), SPEC.changed(decoder=decoder, heatmap_hw=(46, 45), flip_shift=0)]
    found, wanted = [], []
    for spec in specs:
        heatmaps = drawn_maps(spec, PEOPLE, 0, dtype)
        flipped = drawn_maps(spec, PEOPLE, 1, dtype) if flip else None
        found.append(kernels.run(kernels.decode(heatmaps, spec, flipped))[0])
        merged = heatmaps if flipped is None else merge_flipped(heatmaps, flipped, spec)
        wanted.append(decode_heatmaps(merged, spec))
    return compare_keypoints(np.concatenate(found), np.concatenate(wanted), exact=decoder in EXACT)


def check_special_maps(kernels: Kernels) -> Finding:
    """Maps without a peak, with equal ones, and with values that are no numbers: what numpy gives, to the bit."""
    spec = SPEC.changed(decoder="quarter")
    maps = np.zeros((8, spec.num_maps, *spec.heatmaps.size_hw), np.float32)
    maps[1], maps[2] = -1, 0.5
    maps[3, :, 0, 0] = maps[4, :, -1, -1] = 1
    maps[5, :, 8, 6], maps[6, :, 8, 6], maps[7] = np.nan, np.inf, -np.inf
    return compare_keypoints(
        kernels.run(kernels.decode(maps, spec))[0], decode_heatmaps(maps, spec), exact=True, confident=-np.inf
    )


def check_mapping(kernels: Kernels) -> Finding:
    """Key points in image px."""
    heatmaps = drawn_maps(SPEC, 3, 0, np.float32)
    regions = Regions.around(np.array([[20, 10, 90, 200], [-60, -20, 80, 160], [1000, 600, 1900, 1050]]), SPEC)
    wanted = decode_heatmaps(heatmaps, SPEC)
    wanted[..., :2] = regions.to_image(wanted[..., :2], SPEC.heatmaps.size_hw)
    return compare_keypoints(kernels.run(kernels.decode(heatmaps, SPEC, None, regions))[0], wanted, exact=False)


def check_golden(kernels: Kernels, golden: Path | None, decoder: str) -> Finding:
    """mmpose's own key points of the maps in decode_64x48.npz, in heat-map px."""
    path = golden / "decode_64x48.npz" if golden else None
    if path is None or not path.is_file():
        raise SkippedError("there is no decode_64x48.npz: name its folder by --golden")
    data = np.load(path)
    heatmaps = data["heatmaps"]
    if decoder == "udp-combined":
        heatmaps = np.concatenate([heatmaps[:, :, None], data["offsets"]], axis=2).reshape(4, 51, 64, 48)
    spec = SPEC.changed(decoder=decoder, quarter_guard="independent")
    found = kernels.run(kernels.decode(heatmaps, spec))[0]
    wanted = data[f"mm_{decoder.replace('-', '_')}"].copy()
    wanted[..., :2] /= np.array([192 / 47, 256 / 63] if decoder.startswith("udp") else [4, 4])  # its are input px
    return compare_keypoints(found, wanted, exact=False)


def check_peaks(kernels: Kernels, dtype: type) -> Finding:
    """Drawn maps full of ties, several windows."""
    maps = drawn_maps(SPEC.changed(heatmap_hw=(47, 59)), PEOPLE, 0, dtype)
    maps = (np.round(maps.astype(np.float32) * 32) / 32).astype(dtype)
    wrong = 0
    cases = ((5, 0.1, 30), (3, 0.3, 2), (1, -0.01, 256), (41, 0.1, 5))
    for window, threshold, top_k in cases:
        found = kernels.run(kernels.peaks(maps, window, threshold, top_k))
        wanted = find_peaks(maps, window, threshold, top_k)
        wrong += not all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    return Finding(wrong == 0, f"{len(cases) - wrong} of {len(cases)} windows equal to the bit", "all")


def check_simcc(kernels: Kernels, dtype: type) -> Finding:
    """RTMW3D's vectors, full of ties and with a NaN, with and without flip test."""
    rng, order = np.random.default_rng(0), COCO17.flip_order
    head = SimCC(split_ratio=1.0, depth_bins=48, depth_range=1.0)
    shapes = [(PEOPLE, len(COCO17), bins) for bins in (33, 64, head.depth_bins)]
    drawn: list[np.ndarray] = [(rng.integers(-9, 40, shape) / 32).astype(dtype) for shape in (*shapes, *shapes)]
    plain, mirrored = drawn[:3], drawn[3:]
    plain[0][0, 2, 3] = np.nan
    different = 0
    for flipped in ([], mirrored):
        vectors: list[np.ndarray] = plain
        if flipped:
            x, y = merge_flipped_simcc((plain[0], plain[1]), (mirrored[0], mirrored[1]), order)
            vectors = [x, y, np.float32(0.5) * (plain[2].astype(np.float32) + mirrored[2][:, order])]
        found, depths = kernels.run(kernels.simcc(plain, flipped, order))
        wanted = decode_simcc(vectors[0], vectors[1], head)
        different += int((found != wanted).any(axis=2).sum())
        different += int((depths != decode_depth(vectors[2], wanted, head)).sum())
    return Finding(different == 0, f"{different} of {4 * PEOPLE * len(COCO17)} places differ", "none, to the bit")


def check_volume(kernels: Kernels, dtype: type) -> Finding:
    """Drawn volumes, sharp and flat, one of them with a NaN."""
    head = Volume((8, 12, 33))
    volume: np.ndarray = np.random.default_rng(0).normal(0, 3, (PEOPLE, 3 * 8, 12, 33)).astype(dtype)
    volume[0, 3, 4, 5], volume[0, 8:16] = np.nan, 0
    difference = np.abs(kernels.run(kernels.volume(volume, head))[0] - decode_volume(volume, head)).max()
    return Finding(bool(difference <= CELLS), f"{difference:.1e} cells, m or of the score at most", f"{CELLS:g}")


def compare_keypoints(found: np.ndarray, wanted: np.ndarray, *, exact: bool, confident: float = CONFIDENT) -> Finding:
    """(N, K, 3) against the reference: to the bit, or within PX and SCORE where the reference is confident."""
    if exact:
        different = int((found != wanted).any(axis=-1).sum())
        return Finding(different == 0, f"{different} of {found[..., 0].size} key points differ", "none, to the bit")
    real = wanted[..., 2] > confident
    if not real.any():
        return Finding(False, "no key point to compare", "some")
    px = float(np.abs(found[real][:, :2] - wanted[real][:, :2]).max())
    score = float(np.abs(found[..., 2] - wanted[..., 2]).max())
    text = f"{px:.1e} px, score {score:.1e} at most ({int(real.sum())} key points)"
    return Finding(px <= PX and score <= SCORE, text, f"{PX:g} px, {SCORE:g}")


def drawn_maps(spec: ModelSpec, people: int, seed: int, dtype: type) -> np.ndarray:
    """(N, C, h, w): two peaks a map, on, near and beyond the border, over a little noise."""
    rng = np.random.default_rng(seed)
    height, width = spec.heatmaps.size_hw
    shape = (people, spec.num_maps, height, width)
    maps = rng.normal(0, 0.01, shape)

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (*shape[:2], 1, 1))

    for strength in (draw(0.6, 1), draw(0.1, 0.5)):
        x, y = draw(-1, width), draw(-1, height)
        maps += strength * np.exp(-((np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2) / 8)
    return maps.astype(dtype)


def smooth_image(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 of smooth random colour: a grey level tells more on it than on noise."""
    coarse = np.random.default_rng(0).integers(40, 216, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
