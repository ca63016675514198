"""Key points drawn on pictures."""

from __future__ import annotations

import cv2
import numpy as np

from edgepose.model.skeletons import Skeleton
from edgepose.stages.poses import Poses

LEFT, RIGHT, MIDDLE = (255, 153, 51), (51, 187, 255), (90, 230, 90)  # RGB; the person's own left and right
OUTLINE, BOX = (20, 20, 20), (255, 255, 255)
FRACTION_BITS = 4  # cv2 draws at 1/16 px


def draw_poses(image: np.ndarray, poses: Poses, skeleton: Skeleton, min_score: float = 0.3) -> np.ndarray:
    """Draw limbs, key points and boxes; the person's left is orange, right is blue, the rest green.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        poses: N people in it.
        min_score: key points below are left out, and the limbs that end in them.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    sides = [side_color(name) for name in skeleton.keypoints]
    for xy, scores, box in zip(poses.xy, poses.scores, poses.boxes_xyxy, strict=True):
        # points far outside, or not finite, would overflow cv2's integers
        shown = (scores >= min_score) & (np.abs(xy) < 1e5).all(axis=1)
        radius = float(np.clip(np.sqrt(np.prod(box[2:] - box[:2])) / 60, 1.5, 10))
        _rectangle(canvas, box)
        lines = [
            (_fixed(xy[a]), _fixed(xy[b]), sides[a] if sides[a] == sides[b] else MIDDLE)
            for a, b in skeleton.limbs
            if shown[a] and shown[b]
        ]
        for width, outlined in ((radius + 2, True), (radius, False)):  # a dark rim keeps lines visible on any ground
            for start, end, color in lines:
                _line(canvas, start, end, OUTLINE if outlined else color, width)
        for point, color in ((_fixed(xy[k]), sides[k]) for k in np.flatnonzero(shown)):
            _disc(canvas, point, OUTLINE, radius + 1)
            _disc(canvas, point, color, radius)
    ids = [-1] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    for box, track in zip(poses.boxes_xyxy, ids, strict=True):  # last, so that no figure hides a number
        if track >= 0:
            _label(canvas, box, str(track))
    return canvas


def draw_limbs(
    image: np.ndarray, xy: np.ndarray, shown: np.ndarray, skeleton: Skeleton, color: tuple[int, int, int]
) -> np.ndarray:
    """Draw one person's limbs in one colour, on a copy.

    Args:
        image: (H, W, 3) uint8 RGB.
        xy: (K, 2) px of the image; shown: (K,) bool, the key points to draw.
    """
    canvas = np.ascontiguousarray(image).copy()
    shown = shown & (np.abs(xy) < 1e5).all(axis=1)
    width = max(image.shape[0] / 160, 1.5)
    for a, b in skeleton.limbs:
        if shown[a] and shown[b]:
            _line(canvas, _fixed(xy[a]), _fixed(xy[b]), color, width)
    for point in np.flatnonzero(shown):
        _disc(canvas, _fixed(xy[point]), color, width)
    return canvas


def side_color(name: str) -> tuple[int, int, int]:
    """The colour of a key point's side: orange for the person's left, blue for the right, green for neither."""
    return LEFT if name.startswith("left_") else RIGHT if name.startswith("right_") else MIDDLE


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    """Image px to cv2's fixed-point coordinates."""
    x, y = np.rint(xy * 2**FRACTION_BITS).astype(int)
    return int(x), int(y)


def _rectangle(canvas: np.ndarray, box: np.ndarray) -> None:
    box = np.clip(box, -1e5, 1e5)
    cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), BOX, 1, cv2.LINE_AA, FRACTION_BITS)


def _label(canvas: np.ndarray, box: np.ndarray, text: str) -> None:
    """A person's id, above their box's upper left corner, or within it where the picture ends."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.55
    left, top = np.clip(box[:2], 0, np.array(canvas.shape[1::-1]) - 1).astype(int).tolist()
    left = max(min(left, canvas.shape[1] - cv2.getTextSize(text, font, scale, 1)[0][0] - 4), 0)
    base = top - 5 if top >= 20 else top + 16
    for colour, width in ((OUTLINE, 4), (BOX, 1)):
        cv2.putText(canvas, text, (left + 2, base), font, scale, colour, width, cv2.LINE_AA)


def _line(
    canvas: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: tuple[int, int, int], width: float
) -> None:
    cv2.line(canvas, start, end, color, max(1, round(width)), cv2.LINE_AA, FRACTION_BITS)


def _disc(canvas: np.ndarray, center: tuple[int, int], color: tuple[int, int, int], radius: float) -> None:
    cv2.circle(canvas, center, round(radius * 2**FRACTION_BITS), color, cv2.FILLED, cv2.LINE_AA, FRACTION_BITS)
