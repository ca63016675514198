"""The top-down data path: image and boxes in, key points in image px out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from edgepose.backends import Backend, Pipelined
from edgepose.errors import BackendError
from edgepose.estimate.two_pass import find_keypoints, find_keypoints_of
from edgepose.stages.depth import positions
from edgepose.stages.geometry import Regions, usable_boxes
from edgepose.stages.gpu_frame import Picture, as_frame
from edgepose.stages.poses import Poses


def estimate_poses(backend: Backend, image: Picture, boxes_xyxy: np.ndarray, *, flip_test: bool = False) -> Poses:
    """Find the key points of the person in each box.

    Args:
        backend: from `load_backend`.
        image: (H, W, 3) uint8, RGB; a Frame, which may be BGR or NV12; or, for a plan, a picture that is on the GPU
            already: a GpuFrame, or an RGB array with DLPack or `__cuda_array_interface__`.
        boxes_xyxy: (N, 4), image px; N may be 0. A box that is not finite or has no area gives
            key points of NaN position and score 0 in its place, so that rows keep their box.
        flip_test: average with the mirrored crop, as published accuracies do; costs twice the network.

    Raises:
        FrameError: an image of another shape or dtype.
        ValueError: boxes of another shape.
        BackendError: the runtime failed.
    """
    pixels, boxes, regions = _checked(backend, image, boxes_xyxy)
    keypoints = find_keypoints(backend, pixels, regions, flip_test=flip_test)
    return _in_space(_poses(keypoints, boxes), keypoints, backend, pixels, regions)


def estimate_many(
    backend: Backend,
    images: Sequence[Picture],
    boxes_xyxy: Sequence[np.ndarray],
    *,
    flip_test: bool = False,
) -> list[Poses]:
    """The poses in each of several images, of cameras say, as `estimate_poses` gives them.

    All people share the runs of the network, so that few people in each of many images cost no run each. The images may
    be of different sizes and formats, and any of them without people.

    Raises:
        FrameError, ValueError, BackendError: as `estimate_poses`; ValueError also without boxes of each image.
    """
    if len(images) != len(boxes_xyxy):
        raise ValueError(f"each image wants its own (N, 4) boxes; images: {len(images)}, boxes: {len(boxes_xyxy)}")
    checked = [_checked(backend, image, boxes) for image, boxes in zip(images, boxes_xyxy, strict=True)]
    pixels, regions = [image for image, _, _ in checked], [each for _, _, each in checked]
    found = find_keypoints_of(backend, pixels, regions, flip_test=flip_test) if checked else []
    return [
        _in_space(_poses(keypoints, boxes), keypoints, backend, image, around)
        for keypoints, (image, boxes, around) in zip(found, checked, strict=True)
    ]


def estimate_frames(
    backend: Backend, frames: Iterable[tuple[Picture, np.ndarray]], *, flip_test: bool = False
) -> Iterator[Poses]:
    """The poses of each frame of a video, (image, boxes_xyxy) as `estimate_poses` takes them; in order.

    A backend that works on several frames at once gets that many before the first poses are given, so that the GPU
    is busy while the caller reads and draws.

    Raises:
        ValueError, BackendError: as `estimate_poses`; also for a frame that is ahead.
    """
    if not isinstance(backend, Pipelined) or backend.spec.refine is not None:  # a second pass needs the first's result
        for image, boxes in frames:
            yield estimate_poses(backend, image, boxes, flip_test=flip_test)
        return
    under_way: deque[np.ndarray] = deque()  # their boxes
    try:
        for image, boxes in frames:
            pixels, boxes, regions = _checked(backend, image, boxes)
            backend.submit(pixels, regions, flip_test=flip_test)
            under_way.append(boxes)
            if len(under_way) == backend.frames_in_flight:
                yield _poses(backend.result(), under_way.popleft())
        while under_way:
            yield _poses(backend.result(), under_way.popleft())
    finally:  # ended early: the backend is left without frames under way
        with suppress(BackendError, ValueError):
            for _ in under_way:
                backend.result()


def _checked(backend: Backend, image: Picture, boxes_xyxy: np.ndarray) -> tuple[Picture, np.ndarray, Regions]:
    """The image as the backend takes it, (N, 4) float32 boxes, and the regions of the usable ones."""
    frame = as_frame(image)
    image = image if isinstance(image, np.ndarray) else frame
    boxes = np.asarray(boxes_xyxy, dtype=np.float32)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes_xyxy must be (N, 4), got {boxes.shape}")
    return image, boxes, Regions.around(boxes[usable_boxes(boxes)], backend.spec)


def _poses(keypoints: np.ndarray, boxes: np.ndarray) -> Poses:
    """The key points of the usable boxes, in the rows of all."""
    usable = usable_boxes(boxes)
    xy = np.full((len(boxes), keypoints.shape[1], 2), np.nan, np.float32)
    scores = np.zeros((len(boxes), keypoints.shape[1]), np.float32)
    xy[usable] = keypoints[..., :2]
    scores[usable] = keypoints[..., 2]
    return Poses(xy, scores, boxes)


def _in_space(poses: Poses, keypoints: np.ndarray, backend: Backend, image: Picture, regions: Regions) -> Poses:
    """With positions of the usable boxes, in the rows of all, where the network gives depths."""
    if not backend.spec.gives_depth:
        return poses
    image_hw = as_frame(image).hw
    xyz = np.full((*poses.scores.shape, 3), np.nan, np.float32)
    xyz[usable_boxes(poses.boxes_xyxy)] = positions(keypoints, backend.spec, regions.size_wh, image_hw)
    return replace(poses, xyz=xyz)
