"""Positions in space while people are followed, where nobody can wait for a video's end."""

from __future__ import annotations

import numpy as np

from edgepose.estimate.lift import Lifter
from edgepose.model.skeletons import Skeleton
from edgepose.stages.conversion import sources_of
from edgepose.stages.poses import Poses


class LiveLifter:
    """Lifts the people of one source, each frame from itself and those before it.

    Of a lifter that looks ahead the newest frame stands for those to come, as at a video's end: such positions are less
    exact than those of a whole video. A causal lifter loses nothing.

    Args:
        lifter: from `open_lifter`.
        skeleton: of the poses.

    Attributes:
        lifter: the same.

    Raises:
        ModelFileError: the lifter wants key points that the skeleton does not tell.
    """

    def __init__(self, lifter: Lifter, skeleton: Skeleton) -> None:
        sources_of(skeleton, lifter.points)
        self.lifter, self._skeleton = lifter, skeleton
        self._image_wh: tuple[int, int] | None = None
        self._past: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {}  # who -> frame, xy, scores

    def take(self, frame: int, poses: Poses, image_wh: tuple[int, int]) -> np.ndarray:
        """Positions of everybody in the next frame.

        Args:
            frame: its number, higher than those before.
            poses: N people; who has no track id, or -1, is lifted from this frame alone.
            image_wh: width and height, px. Those before of another size are taken to show the same, scaled.

        Returns:
            (N, K', 3) float32 metres around the root; NaN for a person of whom a key point was never found.
        """
        window = self.lifter.head.frames
        self._past = {who: past for who, past in self._past.items() if frame - past[-1][0] <= window}
        self._fit(image_wh)
        found = np.full((len(poses), len(self.lifter.skeleton), 3), np.nan, np.float32)
        for row in range(len(poses)):
            who = -1 if poses.track_ids is None else int(poses.track_ids[row])
            past = self._past.get(who, []) if who >= 0 else []
            past = [*past, (frame, poses.xy[row], poses.scores[row])][-window:]
            if who >= 0:
                self._past[who] = past
            numbers, xy, scores = (np.array(part) for part in zip(*past, strict=True))
            found[row] = self.lifter.track(numbers, xy, scores, self._skeleton, image_wh, newest=True)[0]
        return found

    def _fit(self, image_wh: tuple[int, int]) -> None:
        """Bring what was seen before to a frame of this size."""
        if self._image_wh not in (None, image_wh):
            scale_xy = np.divide(image_wh, self._image_wh)
            for past in self._past.values():
                past[:] = [(frame, xy * scale_xy, scores) for frame, xy, scores in past]
        self._image_wh = image_wh
