"""How well-known ONNX files of other projects are fed and read, by name: what `edgepose import --preset` takes.

A preset is a spec without a name. The files themselves are the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepose.errors import ModelFileError
from edgepose.model.spec import ModelSpec

_MMPOSE = {"color_order": "rgb", "box_padding": 1.25, "quarter_guard": "independent"}  # ImageNet's mean and deviation

_TINYPOSE = {"skeleton": "coco17", "decoder": "dark", "blur_kernel": 3}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # PaddleDetection's configs/keypoint/tiny_pose, by paddle2onnx; its `dark_postprocess` blurs by 3
    "pp-tinypose-256x192": {**_TINYPOSE, "input_hw": [256, 192], "heatmap_hw": [64, 48]},
    "pp-tinypose-128x96": {**_TINYPOSE, "input_hw": [128, 96], "heatmap_hw": [32, 24]},
    # dog-qiuqiu/Ultralight-SimplePose
    "ultralight-simplepose": {"input_hw": [256, 192], "heatmap_hw": [64, 48], "skeleton": "coco17"},
    # mmdeploy's pose-detection_static: SimpleBaseline, HRNet and their like, one output of heat maps
    "mmdeploy-heatmap-256x192": {**_MMPOSE, "input_hw": [256, 192], "heatmap_hw": [64, 48], "skeleton": "coco17"},
    "mmdeploy-heatmap-384x288": {**_MMPOSE, "input_hw": [384, 288], "heatmap_hw": [96, 72], "skeleton": "coco17"},
    # RTMPose and SimCC as rtmlib and mmdeploy publish them: outputs simcc_x and simcc_y
    **{
        f"rtmpose-{points}-{height}x{width}": {
            "input": {"size_hw": [height, width]},
            "region": {"padding": 1.25},
            "head": {"kind": "simcc", "split_ratio": 2.0},
            "skeleton": skeleton,
        }
        for points, skeleton, height, width in (
            *(("body17", "coco17", 256, 192), ("body17", "coco17", 384, 288)),
            *(("body26", "halpe26", 256, 192), ("body26", "halpe26", 384, 288)),
            *(("wholebody", "wholebody133", 256, 192), ("wholebody", "wholebody133", 384, 288)),
            *(("hand", "hand21", 256, 256), ("face", "face106", 256, 256)),
        )
    },
    # RTMW3D as rtmlib publishes it: simcc_z too
    "rtmw3d-wholebody-384x288": {
        "input": {"size_hw": [384, 288]},
        "region": {"padding": 1.25},
        "head": {"kind": "simcc", "split_ratio": 2.0, "depth_bins": 576},
        "skeleton": "wholebody133",
    },
    # ViTPose by mmdeploy, transformers' optimum or its own repository
    "vitpose-256x192": {
        "input_hw": [256, 192],
        "heatmap_hw": [64, 48],
        "skeleton": "coco17",
        "alignment": "udp",
        "decoder": "udp",
        "flip_shift": 0,
    },
}


def pose_preset(preset: str, name: str) -> ModelSpec:
    """The spec of a preset for files of this name.

    Raises:
        ModelFileError: there is no such preset; the message lists them.
    """
    if preset not in PRESETS:
        raise ModelFileError(
            f"unknown preset {preset!r}; known: {', '.join(PRESETS)}, and those of people and detectors in --help; for "
            f"another file write a spec (docs/spec.md)"
        )
    return ModelSpec.from_json({"name": name, **PRESETS[preset]})
