"""edgepose: human-pose networks from PyTorch checkpoint to INT8 on a Jetson.

from edgepose import load_backend, estimate_poses

backend = load_backend("simplebaseline_tiny.int8.onnx")
poses = estimate_poses(backend, image, boxes_xyxy)  # poses.xy (N, K, 2) in image px
"""

from __future__ import annotations

from edgepose.backends import Backend, load_backend
from edgepose.errors import EdgeposeError
from edgepose.estimate.top_down import estimate_poses
from edgepose.model.passport import Passport, read_passport
from edgepose.model.skeletons import COCO17, MPII16, Skeleton
from edgepose.model.spec import ModelSpec
from edgepose.stages.frames import Frame
from edgepose.stages.poses import Poses

__version__ = "0.1.0"
__all__ = [
    "COCO17",
    "MPII16",
    "Backend",
    "EdgeposeError",
    "Frame",
    "ModelSpec",
    "Passport",
    "Poses",
    "Skeleton",
    "estimate_poses",
    "load_backend",
    "read_passport",
]
