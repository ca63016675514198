"""The head of networks that give whole people: boxes and key points in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

LAYOUTS = ("yolo", "end-to-end", "dets", "queries", "movenet-multi", "movenet-single", "landmarks")
ONE_PERSON = ("movenet-single", "landmarks")  # they look at one person: of a crop, or of a whole image


@dataclass(frozen=True)
class People:
    """Boxes of people with their key points.

    K is the number of key points, A or M the number of candidates, C the number of classes. The layouts, and the
    outputs of each:

    * "yolo": `output` (N, 4 + C + K V, A): centre x, y, width and height in input px; scores; the key points, x and y
      in input px (YOLOv8-pose and YOLO11-pose, exported without suppression).
    * "end-to-end": `output` (N, M, 6 + K V): left, top, right, bottom in input px; score; class; the key points
      (YOLO26-pose; YOLO11-pose exported with suppression).
    * "dets": `dets` (N, M, 5): left, top, right, bottom in input px, score; and `keypoints` (N, M, K, 3) in input px
      (RTMO and YOLOX-Pose as mmdeploy exports them).
    * "queries": `logits` (N, Q, C), before the sigmoid; `keypoints` (N, Q, K V) as shares of the input, or with V = 8
      (N, Q, K, 8); and with `boxes` also `boxes` (N, Q, 4): centre x, y, width, height as shares of the input (RF-DETR
      with key points, V = 8, with boxes; DETRPose, V = 2, without).
    * "movenet-multi": `output` (N, M, 3 K + 5): y, x, score of each key point, then top, left, bottom, right, score;
      all positions as shares of the input.
    * "movenet-single": `output` (N, 1, K, 3): y, x, score, as shares of the input; one person an image.
    * "landmarks": `output` (N, 5 P): x, y, z in input px, visibility and presence before the sigmoid, of P points of
      which the first K are meant (BlazePose); and `score` (N, 1), whether there is somebody. One person a crop.

    Attributes:
        layout: one of LAYOUTS.
        classes: C.
        person: index of the person's class, from 0.
        values: V, of each key point: 3 are x, y and score, 2 are x and y; of "yolo", "end-to-end" and "queries". Of
            "queries" alone 8: x, y, then before the sigmoid whether it can be found and whether it is seen, then
            log l11, l21 and log l22 of its precision's Cholesky factor, and its part of the logits (RF-DETR).
        boxes: of layout "queries".
        min_score: candidates of a lower score are nobody.
        nms_iou: of two boxes that overlap more, the lower one is dropped; None: the network has done so.
        candidates: A, M or Q; None: whatever the file has.
        points: P of layout "landmarks"; None: as many as the skeleton has.
    """

    kind: ClassVar[str] = "people"

    layout: str
    classes: int = 1
    person: int = 0
    values: int = 3
    boxes: bool = True
    min_score: float = 0.3
    nms_iou: float | None = None
    candidates: int | None = None
    points: int | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if type(self.classes) is not int or not 1 <= self.classes <= 10_000:
            raise ValueError(f"classes must be a whole number from 1 to 10000, got {self.classes!r}")
        if type(self.person) is not int or not 0 <= self.person < self.classes:
            raise ValueError(f"person must be a class from 0 to {self.classes - 1}, got {self.person!r}")
        if self.values not in ((2, 3, 8) if self.layout == "queries" else (2, 3)):
            more = ", or 8 (RF-DETR's)" if self.layout == "queries" else ""
            raise ValueError(f"values must be 3 (x, y, score) or 2 (x, y){more}, got {self.values!r}")
        if not 0 <= self.min_score <= 1:  # False for NaN
            raise ValueError(f"min_score must be from 0 to 1, got {self.min_score}")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be over 0 and at most 1, or null, got {self.nms_iou}")
        for key in ("candidates", "points"):
            value = getattr(self, key)
            if value is not None and not (type(value) is int and value >= 1):
                raise ValueError(f"{key} must be a whole number over 0, or null, got {value!r}")

    def outputs(self, spec: Any) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the network's outputs, without the batch; None is a size that the file decides.

        Raises:
            ValueError: the network finds everybody, and the spec gives it crops of people.
        """
        if spec.region is not None and self.layout not in ONE_PERSON:
            raise ValueError(
                f'a people head of layout "{self.layout}" finds everybody in a whole image: input\'s resize must be '
                f'"letterbox" or "plain", and there is no region'
            )
        return self.output_shapes(len(spec.skeleton))

    def output_shapes(self, num_keypoints: int) -> dict[str, tuple[int | None, ...]]:
        """Names and shapes of the outputs, without the batch; None is a size that the file decides."""
        many, of_points = self.candidates, num_keypoints * self.values
        if self.layout == "yolo":
            return {"output": (4 + self.classes + of_points, many)}
        if self.layout == "end-to-end":
            return {"output": (many, 6 + of_points)}
        if self.layout == "dets":
            return {"dets": (many, 5), "keypoints": (many, num_keypoints, 3)}
        if self.layout == "queries":
            boxes: dict[str, tuple[int | None, ...]] = {"boxes": (many, 4)} if self.boxes else {}
            points = (num_keypoints, 8) if self.values == 8 else (of_points,)
            return {"logits": (many, self.classes), "keypoints": (many, *points), **boxes}
        if self.layout == "movenet-multi":
            return {"output": (many, 3 * num_keypoints + 5)}
        if self.layout == "movenet-single":
            return {"output": (1, num_keypoints, 3)}
        return {"output": (5 * (self.points or num_keypoints),), "score": (1,)}
