"""RTMPose t to x (body, body with feet, whole body, hand, face) and RTMW m to x (whole body)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from edgepose.export.zoo.model import ByHand, Model, Published, mmpose_file, simcc_spec

if TYPE_CHECKING:
    from torch import nn


class _Row(NamedTuple):
    """One network at one input size, and the file that mmpose's index names for it.

    RTMPose of COCO is the one trained on AI Challenger's people too, as in RTMPose's own tables.
    """

    size: str
    dataset: str
    height: int
    width: int
    gflops: float
    params: int
    file: str = ""
    metric: str = ""
    accuracy: float = math.nan


_FILES = (
    _Row(
        "t",
        "coco",
        256,
        192,
        0.71,
        3_337_007,
        "rtmpose-tiny_simcc-aic-coco_pt-aic-coco_420e-256x192-cfc8f33d_20230126",
        "AP",
        0.685,
    ),
    _Row(
        "s",
        "coco",
        256,
        192,
        1.35,
        5_473_251,
        "rtmpose-s_simcc-aic-coco_pt-aic-coco_420e-256x192-fcb2599b_20230126",
        "AP",
        0.722,
    ),
    _Row(
        "m",
        "coco",
        256,
        192,
        3.84,
        13_587_611,
        "rtmpose-m_simcc-aic-coco_pt-aic-coco_420e-256x192-63eb25f7_20230126",
        "AP",
        0.758,
    ),
    _Row(
        "m",
        "coco",
        384,
        288,
        8.6,
        13_717_659,
        "rtmpose-m_simcc-aic-coco_pt-aic-coco_420e-384x288-a62a0b32_20230228",
        "AP",
        0.77,
    ),
    _Row(
        "l",
        "coco",
        256,
        192,
        8.28,
        27_660_339,
        "rtmpose-l_simcc-aic-coco_pt-aic-coco_420e-256x192-f016ffe0_20230126",
        "AP",
        0.765,
    ),
    _Row(
        "l",
        "coco",
        384,
        288,
        18.61,
        27_790_387,
        "rtmpose-l_simcc-aic-coco_pt-aic-coco_420e-384x288-97d6cb0f_20230228",
        "AP",
        0.773,
    ),
    _Row(
        "t",
        "halpe26",
        256,
        192,
        0.74,
        3_506_360,
        "rtmpose-t_simcc-body7_pt-body7-halpe26_700e-256x192-6020f8a6_20230605",
        "Mean@0.1",
        0.919,
    ),
    _Row(
        "s",
        "halpe26",
        256,
        192,
        1.39,
        5_699_052,
        "rtmpose-s_simcc-body7_pt-body7-halpe26_700e-256x192-7f134165_20230605",
        "Mean@0.1",
        0.93,
    ),
    _Row(
        "m",
        "halpe26",
        256,
        192,
        3.88,
        13_926_308,
        "rtmpose-m_simcc-body7_pt-body7-halpe26_700e-256x192-4d3e73dd_20230605",
        "Mean@0.1",
        0.947,
    ),
    _Row(
        "m",
        "halpe26",
        384,
        288,
        8.69,
        14_056_356,
        "rtmpose-m_simcc-body7_pt-body7-halpe26_700e-384x288-89e6428b_20230605",
        "Mean@0.1",
        0.952,
    ),
    _Row(
        "l",
        "halpe26",
        256,
        192,
        8.34,
        28_111_932,
        "rtmpose-l_simcc-body7_pt-body7-halpe26_700e-256x192-2abb7558_20230605",
        "Mean@0.1",
        0.954,
    ),
    _Row(
        "l",
        "halpe26",
        384,
        288,
        18.72,
        28_241_980,
        "rtmpose-l_simcc-body7_pt-body7-halpe26_700e-384x288-734182ce_20230605",
        "Mean@0.1",
        0.956,
    ),
    _Row(
        "x",
        "halpe26",
        384,
        288,
        34.46,
        49_998_772,
        "rtmpose-x_simcc-body7_pt-body7-halpe26_700e-384x288-7fb6e239_20230606",
        "Mean@0.1",
        0.957,
    ),
    _Row(
        "m",
        "wholebody",
        256,
        192,
        4.43,
        17_953_039,
        "rtmpose-m_simcc-coco-wholebody_pt-aic-coco_270e-256x192-cd5e845c_20230123",
        "body AP",
        0.673,
    ),
    _Row(
        "l",
        "wholebody",
        256,
        192,
        9.02,
        33_480_871,
        "rtmpose-l_simcc-coco-wholebody_pt-aic-coco_270e-256x192-6f206314_20230124",
        "body AP",
        0.695,
    ),
    _Row(
        "l",
        "wholebody",
        384,
        288,
        20.08,
        33_610_919,
        "rtmpose-l_simcc-coco-wholebody_pt-aic-coco_270e-384x288-eaeb96c8_20230125",
        "body AP",
        0.712,
    ),
    _Row(
        "m",
        "mpii",
        256,
        256,
        5.1,
        13_586_842,
        "rtmpose-m_simcc-mpii_pt-aic-coco_210e-256x256-ec4dbec8_20230206",
        "PCKh",
        0.907,
    ),
    _Row(
        "m",
        "crowdpose",
        256,
        192,
        3.82,
        13_474_712,
        "rtmpose-m_simcc-crowdpose_pt-aic-coco_210e-256x192-e6192cac_20230224",
        "AP",
        0.706,
    ),
    _Row(
        "m",
        "hand",
        256,
        256,
        5.13,
        13_775_007,
        "rtmpose-m_simcc-coco-wholebody-hand_pt-aic-coco_210e-256x256-99477206_20230228",
        "AUC",
        0.815,
    ),
    _Row("t", "face106", 256, 256, 1.29, 5_048_584),
    _Row("s", "face106", 256, 256, 2.22, 7_743_036),
    _Row("m", "face106", 256, 256, 5.67, 16_973_812),
)
_RTMW = (
    _Row(
        "m",
        "wholebody",
        256,
        192,
        8.6,
        32_258_207,
        "rtmw-dw-l-m_simcc-cocktail14_270e-256x192-20231122",
        "body AP",
        0.676,
    ),
    _Row(
        "l",
        "wholebody",
        256,
        192,
        15.78,
        57_201_207,
        "rtmw-dw-x-l_simcc-cocktail14_270e-256x192-20231122",
        "body AP",
        0.743,
    ),
    _Row(
        "l",
        "wholebody",
        384,
        288,
        35.28,
        57_354_295,
        "rtmw-dw-x-l_simcc-cocktail14_270e-384x288-20231122",
        "body AP",
        0.761,
    ),
    _Row(
        "x",
        "wholebody",
        256,
        192,
        26.09,
        92_041_903,
        "rtmw-x_simcc-cocktail14_pt-ucoco_270e-256x192-13a2546d_20231208",
        "body AP",
        0.746,
    ),
    _Row(
        "x",
        "wholebody",
        384,
        288,
        58.48,
        92_194_991,
        "rtmw-x_simcc-cocktail14_pt-ucoco_270e-384x288-f840f204_20231122",
        "body AP",
        0.763,
    ),
)
# mmpose's projects/rtmpose3d, its model zoo: of positions in space 56 and 57 mm MPJPE on H3WB.
_RTMW3D = (
    _Row(
        "l",
        "wholebody",
        384,
        288,
        35.32,
        57_501_751,
        "rtmw3d-l_8xb64_cocktail14-384x288-794dbc78_20240626",
        "whole-body AP",
        0.678,
    ),
    _Row(
        "x",
        "wholebody",
        384,
        288,
        58.52,
        92_342_447,
        "rtmw3d-x_8xb64_cocktail14-384x288-b0a0eab7_20240626",
        "whole-body AP",
        0.680,
    ),
)
_DEPTH_BINS = 576  # two for each of 288 steps between 2.17 m before and behind the root


def entries() -> list[Model]:
    """RTMPose, then RTMW and RTMW3D."""
    return [_rtmpose(row) for row in _FILES] + [_rtmw(row) for row in _RTMW] + [_rtmw3d(row) for row in _RTMW3D]


def _rtmpose(row: _Row) -> Model:
    spec = simcc_spec(f"rtmpose_{row.size}", (row.dataset, row.height, row.width))

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.rtmpose import rtmpose  # torch: not for a mere list of names

        return rtmpose(row.size, spec.num_keypoints, spec.image.size_hw)

    published = mmpose_file(f"v1/projects/rtmposev1/{row.file}.pth", row.accuracy, row.metric) if row.file else None
    return Model(spec.name, row.dataset, spec, build, row.gflops, row.params, published=published)


def _rtmw(row: _Row) -> Model:
    """RTMW's distilled files have no hash in their names, and so are not fetched: their user brings them."""
    spec = simcc_spec(f"rtmw_{row.size}", (row.dataset, row.height, row.width))

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.rtmpose import rtmw  # torch: not for a mere list of names

        return rtmw(row.size, spec.num_keypoints, spec.image.size_hw)

    published: Published | None = None
    by_hand: ByHand | None = None
    if "-dw-" in row.file:
        by_hand = ByHand(f"{row.file}.pth", row.accuracy, row.metric)
    else:
        published = mmpose_file(f"v1/projects/rtmw/{row.file}.pth", row.accuracy, row.metric)
    return Model(spec.name, row.dataset, spec, build, row.gflops, row.params, published=published, by_hand=by_hand)


def _rtmw3d(row: _Row) -> Model:
    """RTMW with a third vector, of the depth behind the middle of the hips."""
    spec = simcc_spec(f"rtmw3d_{row.size}", (row.dataset, row.height, row.width)).changed(depth_bins=_DEPTH_BINS)

    def build(style: str) -> nn.Module:
        from edgepose.export.networks.rtmpose import rtmw  # torch: not for a mere list of names

        return rtmw(row.size, spec.num_keypoints, spec.image.size_hw, _DEPTH_BINS)

    published = mmpose_file(f"v1/wholebody_3d_keypoint/rtmw3d/{row.file}.pth", row.accuracy, row.metric)
    return Model(spec.name, row.dataset, spec, build, row.gflops, row.params, published=published)
