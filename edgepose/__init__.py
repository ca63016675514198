"""edgepose: human-pose networks from PyTorch checkpoint to INT8 on a Jetson.

from edgepose import load_backend, estimate_poses

with load_backend("simplebaseline_tiny.int8.onnx") as backend:
    poses = estimate_poses(backend, image, boxes_xyxy)  # poses.xy (N, K, 2) in image px
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepose.backends import Backend, load_backend, load_runtime
    from edgepose.backends.runtime import Runtime
    from edgepose.errors import EdgeposeError
    from edgepose.estimate.detect import find_people, load_detector
    from edgepose.estimate.follow import Following, follow
    from edgepose.estimate.top_down import estimate_frames, estimate_many, estimate_poses
    from edgepose.io.overlay import draw_poses
    from edgepose.model.passport import Passport, read_passport
    from edgepose.model.skeletons import COCO17, MPII16, Skeleton
    from edgepose.model.spec import ModelSpec
    from edgepose.stages.frames import Frame
    from edgepose.stages.gpu_frame import GpuFrame
    from edgepose.stages.poses import Poses

__version__ = "0.1.0"
__all__ = [
    "COCO17",
    "MPII16",
    "Backend",
    "EdgeposeError",
    "Following",
    "Frame",
    "GpuFrame",
    "ModelSpec",
    "Passport",
    "Poses",
    "Runtime",
    "Skeleton",
    "draw_poses",
    "estimate_frames",
    "estimate_many",
    "estimate_poses",
    "find_people",
    "follow",
    "load_backend",
    "load_detector",
    "load_runtime",
    "read_passport",
]

_HOMES = {  # loaded when they are asked for: the command must start before numpy does, to be interrupted in one line
    "edgepose.backends": ("Backend", "load_backend", "load_runtime"),
    "edgepose.backends.runtime": ("Runtime",),
    "edgepose.errors": ("EdgeposeError",),
    "edgepose.estimate.detect": ("find_people", "load_detector"),
    "edgepose.estimate.follow": ("Following", "follow"),
    "edgepose.estimate.top_down": ("estimate_frames", "estimate_many", "estimate_poses"),
    "edgepose.io.overlay": ("draw_poses",),
    "edgepose.model.passport": ("Passport", "read_passport"),
    "edgepose.model.skeletons": ("COCO17", "MPII16", "Skeleton"),
    "edgepose.model.spec": ("ModelSpec",),
    "edgepose.stages.frames": ("Frame",),
    "edgepose.stages.gpu_frame": ("GpuFrame",),
    "edgepose.stages.poses": ("Poses",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'edgepose' has no attribute {name!r}")
    return getattr(import_module(home), name)
