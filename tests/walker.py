"""A stick figure that walks past a camera: positions in space, and the key points that a picture of it has."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepose.model.skeletons import BODY15, COCO17

WH = (640, 480)
FOCAL_PX = 500.0
_FACE = {"nose": (0, -0.72, -0.1), "left_eye": (0.03, -0.75, -0.08), "right_eye": (-0.03, -0.75, -0.08)}
_FACE |= {"left_ear": (0.08, -0.73, 0), "right_ear": (-0.08, -0.73, 0)}  # metres from the pelvis, facing the camera


def walking(frames: int) -> np.ndarray:
    """(T, 15, 3) metres in the camera's frame, BODY15: 1.3 m in front of it and to its left at first, 4 m away."""
    phase = np.arange(frames)[:, None] / 15 * np.pi
    swing = 0.4 * np.sin(phase)
    points = {"pelvis": (0, 0, 0), "spine": (0, -0.25, 0), "thorax": (0, -0.5, 0)}
    for side, sign in (("left", 1), ("right", -1)):
        points |= {f"{side}_hip": (sign * 0.1, 0, 0), f"{side}_shoulder": (sign * 0.18, -0.5, 0)}
    xyz = np.zeros((frames, len(BODY15), 3))
    for name, place in points.items():
        xyz[:, BODY15.keypoints.index(name)] = place
    for side, sign in (("left", 1), ("right", -1)):
        for start, upper, lower, turn in (("hip", "knee", "ankle", sign), ("shoulder", "elbow", "wrist", -sign)):
            length = 0.42 if start == "hip" else 0.28
            bone = length * np.concatenate([0 * swing, np.cos(swing), turn * np.sin(swing)], axis=1)
            at = xyz[:, BODY15.keypoints.index(f"{side}_{start}")]
            xyz[:, BODY15.keypoints.index(f"{side}_{upper}")] = at + bone
            xyz[:, BODY15.keypoints.index(f"{side}_{lower}")] = at + 2 * bone
    return xyz + np.concatenate([-1.3 + phase / 10, 0 * phase, 4 + 0 * phase], axis=1)[:, None]


def seen(xyz: np.ndarray) -> np.ndarray:
    """(T, 17, 2) px: the walker's COCO-17 key points in a picture of WH."""
    pelvis = xyz[:, BODY15.keypoints.index("pelvis")]
    points = [
        pelvis + _FACE[name] if name in _FACE else xyz[:, BODY15.keypoints.index(name)] for name in COCO17.keypoints
    ]
    points_xyz = np.stack(points, axis=1)
    return np.asarray(points_xyz[..., :2] / points_xyz[..., 2:] * FOCAL_PX + np.array(WH) / 2)


def make_tracks_json(frames: int = 30) -> dict[str, Any]:
    """One track of the walker with its positions, as `io.tracks` reads it."""
    xyz = walking(frames)
    points = np.concatenate([seen(xyz), np.ones((frames, 17, 1))], axis=2)
    return {
        "images": [
            {"id": frame, "video_id": 0, "frame_id": frame, "width": WH[0], "height": WH[1]} for frame in range(frames)
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "keypoints_3d": list(BODY15.keypoints)}
        ],
        "annotations": [
            {
                "image_id": frame,
                "track_id": 0,
                "category_id": 1,
                "keypoints": points[frame].ravel().tolist(),
                "keypoints_3d": xyz[frame].ravel().tolist(),
            }
            for frame in range(frames)
        ],
    }
