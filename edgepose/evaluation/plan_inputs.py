"""What a plan and the CPU both look at: pictures as frames of each kind, crowds of people, the CPU's answer for each.

The CPU answers once for each picture, and for one person of each kind of frame: a large INT8 network, computed exactly
by a Jetson's CPU, is most of what `edgepose verify` costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edgepose.backends import Backend
from edgepose.errors import InputError
from edgepose.evaluation.agreement import clear_peaks
from edgepose.model.heads.simcc import SimCC
from edgepose.model.heads.volume import Volume
from edgepose.model.spec import ModelSpec
from edgepose.stages.crop import cut_out, mirror
from edgepose.stages.frames import YUVS, Frame
from edgepose.stages.geometry import Regions
from edgepose.stages.one_person import Outputs, decode_flipped_outputs, decode_outputs, merge_flipped_outputs

PEOPLE = 24  # whom the CPU looks at, in all pictures together
KINDS = (("rgb", YUVS[0]), ("bgr", YUVS[0]), *(("nv12", yuv) for yuv in YUVS))  # of frames
Picture = tuple[np.ndarray, np.ndarray]  # (H, W, 3) uint8 RGB, (N, 4) boxes


@dataclass(frozen=True)
class Crowd:
    """As many people in a picture as a plan takes at once. From the last one of `different` on they are the same again.

    Attributes:
        regions: of all.
        different: how many people are different.
    """

    regions: Regions
    different: int

    @property
    def who(self) -> np.ndarray:
        """(N,) which of the different people each is."""
        return np.arange(len(self.regions)) % self.different

    @property
    def some(self) -> Regions:
        """The regions of the different people."""
        return self.regions.rows(slice(self.different))


@dataclass(frozen=True)
class Answer:
    """A frame with a crowd, and what the CPU finds of its different people.

    Attributes:
        frame: for the plan.
        crowd: in it.
        crops: (M, 3, H, W) float32.
        outputs: of the network for them, by name.
        mirrored: for their mirror images.
    """

    frame: Frame
    crowd: Crowd
    crops: np.ndarray
    outputs: Outputs
    mirrored: Outputs

    def keypoints(
        self, spec: ModelSpec, flip_test: bool, margins: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, K, 3) in image px of the crowd, and (N, K) bool: which are clear of all other places by those margins."""
        keypoints, clear, grid_hw = decoded(self.outputs, self.mirrored if flip_test else None, spec, margins)
        keypoints[..., :2] = self.crowd.some.to_image(keypoints[..., :2], grid_hw)
        return keypoints[self.crowd.who], clear[self.crowd.who]


def answers_of(cpu: Backend, pictures: Sequence[Picture], most: int) -> list[Answer]:
    """The CPU's answers: first for each picture as RGB, then for one person of each other kind of frame.

    Args:
        pictures: from `usable_pictures`.
        most: people in a crowd.
    """
    spec, answers = cpu.spec, []
    shown = [(picture, KINDS[0], PEOPLE // len(pictures)) for picture in pictures]
    shown += [(pictures[number % len(pictures)], kind, 1) for number, kind in enumerate(KINDS[1:])]
    for (image, boxes), kind, different in shown:
        crowd = crowd_of(boxes, most, different, spec)
        frame, seen = as_frame(image, *kind)
        crops = cut_out(seen, crowd.some, spec)
        answers.append(Answer(frame, crowd, crops, cpu.run(crops), cpu.run(mirror(crops))))
    return answers


def usable_pictures(pictures: Sequence[Picture]) -> list[Picture]:
    """Those that show a box of a person, two at least: where it is one, its mirror image too.

    A CUDA graph that does nothing would leave what is right of one picture.

    Raises:
        InputError: there is none.
    """
    usable = [(image, boxes) for image, boxes in pictures if len(boxes) and min(image.shape[:2]) > 1]  # NV12 wants 2 px
    if not usable:
        raise InputError("no picture shows a usable box of a person: give others with --images")
    return usable if len(usable) > 1 else [*usable, _mirrored(*usable[0])]


def crowd_of(boxes_xyxy: np.ndarray, count: int, different: int, spec: ModelSpec) -> Crowd:
    """The people of the boxes in turn, each time a little farther to the right, and from `different` on all again."""
    different = min(max(different, 1), count)
    number = np.arange(count) % different
    boxes = np.asarray(boxes_xyxy, np.float64)[number % len(boxes_xyxy)]
    boxes[:, ::2] += 2.5 * (number // len(boxes_xyxy))[:, None]
    return Crowd(Regions.around(boxes, spec), different)


def as_frame(image: np.ndarray, frame_format: str, yuv: str = YUVS[0]) -> tuple[Frame, np.ndarray]:
    """An RGB image as a frame of that format, and the RGB that it stands for. NV12 drops an odd row or column.

    Args:
        yuv: what NV12's levels are read as. They are BT.601's whatever it says, so that other colours come of them.
    """
    if frame_format == "rgb":
        return Frame(image), image
    if frame_format == "bgr":
        return Frame(np.ascontiguousarray(image[..., ::-1]), "bgr"), image
    height, width = (side - side % 2 for side in image.shape[:2])
    planes = cv2.cvtColor(np.ascontiguousarray(image[:height, :width]), cv2.COLOR_RGB2YUV_I420).reshape(-1)
    luma, chroma = planes[: height * width], planes[height * width :].reshape(2, -1)
    pixels = np.concatenate([luma, chroma.T.reshape(-1)]).reshape(-1, width)  # u and v in turns
    frame = Frame(pixels, "nv12", yuv=yuv)
    return frame, frame.to_rgb()


def peaks_of(outputs: Outputs, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Of each output (N, K, h, w): maps whose peaks are key points, each third where offsets follow each score.

    A SimCC vector is a map of one row. Of other heads there are none.
    """
    if isinstance(spec.head, SimCC):
        return {name: outputs[name][:, :, None] for name in ("simcc_x", "simcc_y")}
    if isinstance(spec.head, Volume):
        return {}
    return {"heatmaps": outputs["heatmaps"][:, :: spec.num_maps // spec.num_keypoints]}


def decoded(
    outputs: Outputs, flipped: Outputs | None, spec: ModelSpec, margins: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Key points (N, K, 3 or 4) in px of a grid, (N, K) bool: whose peaks are clear, and the grid's height and width.

    A volume's point is a mean over all of it, and each is clear.

    Args:
        flipped: of the mirrored crops, for the flip test; None without it.
        margins: by which peaks are higher than all else, by output.
    """
    if flipped is None:
        keypoints, grid_hw = decode_outputs(outputs, spec)
    else:
        keypoints, grid_hw = decode_flipped_outputs(outputs, flipped, spec)
        outputs = outputs if isinstance(spec.head, Volume) else merge_flipped_outputs(outputs, flipped, spec)
    clear = np.ones(keypoints.shape[:2], bool)
    for name, maps in peaks_of(outputs, spec).items():
        clear &= clear_peaks(maps, margins[name])
    return keypoints, clear, grid_hw


def moved(found: np.ndarray, wanted: np.ndarray, regions: Regions, spec: ModelSpec) -> np.ndarray:
    """(N, K) px of the heat map, or of the network's other grid, between key points (N, K, ...) in image px."""
    steps = regions.px_per_step(spec.grid_hw)[:, None]
    return np.asarray(np.linalg.norm((found[..., :2] - wanted[..., :2]) / steps, axis=-1))


def _mirrored(image: np.ndarray, boxes_xyxy: np.ndarray) -> Picture:
    """A picture as in a mirror."""
    boxes = np.array(boxes_xyxy)
    boxes[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(image[:, ::-1]), boxes


def counts_of(most: int) -> list[int]:
    """One person, an odd number and the most."""
    return sorted({1, most - 1 + most % 2, most})
