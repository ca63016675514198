"""What the outputs of a person detector mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

LAYOUTS = ("yolox", "bins", "distances", "boxes", "dets", "end-to-end", "yolo", "queries")
DENSE = ("yolox", "bins", "distances")  # their boxes are decoded from a grid of cells
ACTIVATIONS = ("none", "sigmoid", "softmax")
CELLS = ("corner", "center")


@dataclass(frozen=True)
class Detections:
    """Boxes of objects of several classes, one of which is the person.

    A is the number of candidates, C the number of classes. The layouts, and the outputs of each:

    * "yolox": `output` (N, A, 5 + C): centre x, y and logarithms of width, height, all in cells; objectness; scores
      (Ge et al., "YOLOX", 2021, exported without decoding).
    * "bins": for each stride s `scores_s` (N, A_s, C) and `boxes_s` (N, A_s, 4 * bins): the distances to the left,
      top, right and bottom as distributions over 0 ... bins - 1 cells (Li et al., "Generalized Focal Loss",
      NeurIPS 2020; NanoDet, PicoDet without its last part).
    * "distances": for each stride s `scores_s` (N, C, h, w) and `boxes_s` (N, 4, h, w), the distances in `unit`
      (RTMDet); `channels_last` turns (C, h, w) into (h, w, C); `joined` puts both into `level_s`, scores first.
    * "boxes": `boxes` (N, A, 4): left, top, right, bottom in input px; and `scores` (N, A, C), or (N, C, A) if
      `scores_first` (PicoDet).
    * "dets": `dets` (N, M, 5): left, top, right, bottom in input px, score; and `labels` (N, M) (mmdeploy).
    * "end-to-end": `output` (N, M, 6): left, top, right, bottom in input px, score, class (YOLOv10 and later).
    * "yolo": `output` (N, 4 + C + M, A): centre x, y, width and height in input px, scores; M more are not read
      (YOLOv8 and later).
    * "queries": `boxes` (N, A, 4): centre x, y, width and height as shares of the input; `logits` (N, A, C)
      (Carion et al., "DETR", ECCV 2020; RT-DETR, D-FINE, RF-DETR).

    Attributes:
        layout: one of LAYOUTS.
        classes: C, with the background where the network has one.
        person: index of the person's class, from 0.
        activation: what is still to be applied to scores: one of ACTIVATIONS; softmax is over the classes.
        strides: of the cells in input px; DENSE layouts only.
        bins: of layout "bins".
        cell: where a cell's point lies: on its corner nearest the origin, or its centre; "bins" and "distances".
        unit: "stride" or "px": of layout "distances".
        channels_last, joined, scores_first: see the layouts.
        min_score: candidates of a lower score are nobody.
        nms_iou: of two boxes that overlap more, the lower one is dropped; None: the network has done so.
        candidates: M or A of the layouts that are not DENSE; None: whatever the file has.
        extra: M of layout "yolo".
    """

    kind: ClassVar[str] = "detections"

    layout: str
    classes: int = 80
    person: int = 0
    activation: str = "none"
    strides: tuple[int, ...] = (8, 16, 32)
    bins: int = 8
    cell: str = "corner"
    unit: str = "stride"
    channels_last: bool = False
    joined: bool = False
    scores_first: bool = False
    min_score: float = 0.05
    nms_iou: float | None = 0.65
    candidates: int | None = None
    extra: int = 0

    def __post_init__(self) -> None:
        for key, allowed in (
            ("layout", LAYOUTS),
            ("activation", ACTIVATIONS),
            ("cell", CELLS),
            ("unit", ("stride", "px")),
        ):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}")
        for key, least, most in (("classes", 1, 100_000), ("bins", 2, 64), ("extra", 0, 100_000)):
            value = getattr(self, key)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{key} must be a whole number from {least} to {most}, got {value!r}")
        if type(self.person) is not int or not 0 <= self.person < self.classes:
            raise ValueError(f"person must be a class from 0 to {self.classes - 1}, got {self.person!r}")
        if not self.strides or not all(type(stride) is int and 1 <= stride <= 256 for stride in self.strides):
            raise ValueError(f"strides must be whole numbers of pixels from 1 to 256, got {self.strides}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, got {self.min_score}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be over 0 and at most 1, or null, got {self.nms_iou}")
        if self.candidates is not None and not (type(self.candidates) is int and self.candidates >= 1):
            raise ValueError(f"candidates must be a whole number over 0, or null, got {self.candidates!r}")

    def grids(self, input_hw: tuple[int, int]) -> dict[int, tuple[int, int]]:
        """Rows and columns of cells of each stride; the last cell may reach over the input's edge."""
        height, width = input_hw
        return {stride: (-(-height // stride), -(-width // stride)) for stride in self.strides}

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch; None is a size that the file decides."""
        return self.output_shapes(spec.image.size_hw)

    def output_shapes(self, input_hw: tuple[int, int]) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the outputs, without the batch; None is a size that the file decides."""
        grids, many = self.grids(input_hw), self.candidates
        if self.layout == "yolox":
            return {"output": (sum(h * w for h, w in grids.values()), 5 + self.classes)}
        if self.layout == "bins":
            of_scores = {f"scores_{s}": (h * w, self.classes) for s, (h, w) in grids.items()}
            return {**of_scores, **{f"boxes_{s}": (h * w, 4 * self.bins) for s, (h, w) in grids.items()}}
        if self.layout == "distances":
            parts = {"level": self.classes + 4} if self.joined else {"scores": self.classes, "boxes": 4}
            return {
                f"{name}_{s}": (h, w, count) if self.channels_last else (count, h, w)
                for name, count in parts.items()
                for s, (h, w) in grids.items()
            }
        if self.layout == "boxes":
            return {"boxes": (many, 4), "scores": (self.classes, many) if self.scores_first else (many, self.classes)}
        if self.layout == "dets":
            return {"dets": (many, 5), "labels": (many,)}
        if self.layout == "end-to-end":
            return {"output": (many, 6)}
        if self.layout == "yolo":
            return {"output": (4 + self.classes + self.extra, many)}
        return {"boxes": (many, 4), "logits": (many, self.classes)}
