"""Is a plan right that finds everybody in a whole image, by fields or tags? As plan_check.py, of people without boxes.

Maps are compared as heat maps are. Of people the clear ones decide: those whom thresholds a quarter higher, or
a quarter lower, leave with the same key points. Who is near a threshold comes and goes with rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgepose.backends.runtime import Arrays, Grouping, Runtime
from edgepose.estimate.bottom_up import find_people, in_image
from edgepose.evaluation.agreement import rounded
from edgepose.evaluation.people_shift import same_people
from edgepose.evaluation.plan_check import (
    DECODED_PX,
    FAR_SHARE,
    LARGEST_PX,
    PlanCheck,
    Row,
    network_rows,
    precision_rows,
    same_twice,
    shift_row,
    worst_of,
)
from edgepose.evaluation.plan_inputs import Picture, usable_pictures
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.spec import Input, ModelSpec
from edgepose.stages.letterbox import Letterbox, as_input
from edgepose.stages.poses import Poses

MOST = 8  # pictures that the CPU looks at
CLEAR_BY = 0.25  # of each threshold
SAME_PX = 1e-3  # input px: a key point that another threshold leaves where it is


@dataclass(frozen=True)
class Found:
    """The people of one picture.

    Attributes:
        poses: in px of the network's input.
        clear: (N, K) bool: which key points no threshold decides; none of a person whom one decides.
    """

    poses: Poses
    clear: np.ndarray


@dataclass(frozen=True)
class Compared:
    """What became of clear people in all pictures.

    Attributes:
        people: how many there are.
        lost, gained: of them, whom the plan does not find; and clear ones in the plan's maps who are nobody's.
        points, missing: clear key points of people who are in both, and those of them that the plan does not find, or
            finds elsewhere: farther off than LARGEST_PX, as another's.
        shift_px: of the others, px of the maps.
    """

    people: int
    lost: int
    gained: int
    points: int
    missing: int
    shift_px: np.ndarray

    def told(self) -> str:
        """In words."""
        if not self.people + self.gained:
            return "nobody is clear"
        return (
            f"{self.lost} of {self.people} lost, {self.gained} others found; {self.missing} of {self.points} clear key "
            f"points missing"
        )


def check_maps(
    cpu: Runtime,
    plan: Runtime,
    pictures: Sequence[Picture],
    *,
    repeats: int = 200,
    narrow: Callable[[np.ndarray], str] | None = None,
) -> PlanCheck:
    """Compare such a plan with the ONNX that it was made from; see `check_plan`. A picture without a box is left out.

    Raises:
        InputError: no picture has a usable box.
        BackendError: the GPU or a CPU runtime failed.
    """
    spec, most = plan.passport.spec, plan.passport.plan.max_batch
    head = _head_of(spec)
    inputs = np.stack([_as_input(image, spec.image) for image, _ in usable_pictures(pictures)[:MOST]])
    who = np.arange(max(most, len(inputs))) % len(inputs)
    wanted, precision = cpu.run({"images": inputs}), cpu.passport.precision
    nudged, given = cpu.run({"images": rounded(inputs)}), plan.run({"images": inputs[who]})
    parts = [_parts(maps, head) for maps in (given, wanted, nudged)]
    rows, errors = network_rows(parts[0], parts[1], parts[2], who, precision, "pictures")
    layer = ""
    if narrow is not None and not all(row.agrees for row in rows):
        layer = narrow(inputs[worst_of(errors, who)][None])
    alone = [plan.run({"images": one[None]}) for one in inputs]
    theirs = [_found(_row(wanted, i), spec) for i in range(len(inputs))]
    ours = [_found(_row(maps, 0), spec) for maps in alone]
    if isinstance(plan, Grouping):
        grouped = [_grouped(plan, one, spec) for one in inputs]
        rows.append(_kernel_row(_compare(ours, ours, grouped, spec)))
    else:
        grouped = [each.poses for each in ours]
    rows += _people_rows(_compare(theirs, ours, grouped, spec), precision)
    rows.append(same_twice(lambda number: _bytes(plan, inputs[number % len(inputs)][None]), repeats))
    rows += precision_rows(plan.passport.plan.computes)
    return PlanCheck(tuple(rows), layer)


def _head_of(spec: ModelSpec) -> Fields | Tags:
    """The head of such a network."""
    assert isinstance(spec.head, (Fields, Tags))
    return spec.head


def _as_input(image: np.ndarray, picture: Input) -> np.ndarray:
    return as_input(image, Letterbox.of((image.shape[0], image.shape[1]), picture), picture)


def _row(maps: Arrays, row: int) -> dict[str, np.ndarray]:
    return {name: values[row] for name, values in maps.items()}


def _parts(maps: Arrays, head: Fields | Tags) -> dict[str, np.ndarray]:
    """Outputs by name, of which each is of one kind."""
    if not (isinstance(head, Fields) and head.joined):
        return dict(maps)
    first = maps["heatmaps"].shape[1] - 2 * len(head.limbs)
    return {"heatmaps": maps["heatmaps"][:, :first], "pafs": maps["heatmaps"][:, first:]}


def _found(maps: Arrays, spec: ModelSpec) -> Found:
    """The people in one picture's maps."""
    head, whole = _head_of(spec), _whole(spec)
    poses, _ = find_people(maps, head, whole)
    clear = np.isfinite(poses.xy).all(axis=2)
    for other in _other_thresholds(head):
        again, _ = find_people(maps, other, whole)
        rows, partners = same_people(poses, again)
        same = np.zeros_like(clear)
        same[rows] = np.linalg.norm(poses.xy[rows] - again.xy[partners], axis=2) <= SAME_PX  # False for NaN
        clear &= same
    return Found(poses, clear)


def _other_thresholds(head: Fields | Tags) -> Iterator[Fields | Tags]:
    for factor in (1 + CLEAR_BY, 1 - CLEAR_BY):
        if isinstance(head, Tags):  # a stricter one does not fill: what was filled in is not clear
            fill = head.fill and factor < 1
            tags = (2 - factor) * head.tag_threshold
            yield replace(head, peak_threshold=factor * head.peak_threshold, tag_threshold=tags, fill=fill)
            continue
        yield replace(
            head,
            peak_threshold=factor * head.peak_threshold,
            field_threshold=factor * head.field_threshold,
            samples_share=1 - (1 - head.samples_share) * (2 - factor),
            min_score=factor * head.min_score,
            min_keypoints=max(1, head.min_keypoints + (1 if factor > 1 else -1)),
        )


def _whole(spec: ModelSpec) -> Letterbox:
    """A picture that is as large as the input: its px are the input's."""
    size_hw = spec.image.size_hw
    return Letterbox.fit(size_hw, size_hw, "plain")


def _grouped(plan: Grouping, one: np.ndarray, spec: ModelSpec) -> Poses:
    """The people that the kernels find in one picture."""
    poses, _ = in_image(*plan.people(one[None]), _head_of(spec).size_hw, _whole(spec))
    return poses


def _bytes(plan: Runtime, picture: np.ndarray) -> bytes:
    """What a run gives, to the bit."""
    found = plan.people(picture) if isinstance(plan, Grouping) else plan.run({"images": picture}).values()
    return b"".join(values.tobytes() for values in found)


def _compare(wanted: Sequence[Found], by_rule: Sequence[Found], found: Sequence[Poses], spec: ModelSpec) -> Compared:
    """What became of clear people, picture by picture.

    Args:
        wanted: the people to find.
        by_rule: those in the plan's own maps, of whom the clear ones must be among the wanted.
        found: those that the plan finds.
    """
    head = _head_of(spec)
    step_xy = np.divide(spec.image.size_hw[::-1], head.size_hw[::-1])
    people = lost = gained = 0
    shifts = [np.empty(0)]
    for want, rule, poses in zip(wanted, by_rule, found, strict=True):
        rows, partners = same_people(want.poses, poses)
        clear = want.clear.any(axis=1)
        people += int(clear.sum())
        lost += int(np.delete(clear, rows).sum())
        known, _ = same_people(rule.poses, want.poses)
        gained += int(np.delete(rule.clear.any(axis=1), known).sum())
        apart = np.linalg.norm((want.poses.xy[rows] - poses.xy[partners]) / step_xy, axis=2)
        shifts.append(apart[want.clear[rows]])
    shift_px = np.concatenate(shifts)
    there = shift_px <= LARGEST_PX  # False for NaN
    return Compared(people, lost, gained, len(shift_px), int((~there).sum()), shift_px[there])


def _kernel_row(compared: Compared) -> Row:
    """The kernels against numpy, of the same maps: nobody may differ."""
    px = compared.shift_px.max(initial=0)
    right = not (compared.lost or compared.gained or compared.missing) and bool(px <= DECODED_PX)
    found = f"{compared.told()}; {px:.4f} heat-map px at most"
    return Row("decoding kernel", "the plan's maps grouped", right, found, f"nobody, {DECODED_PX:g}")


def _people_rows(compared: Compared, precision: str) -> Iterator[Row]:
    """The whole way against the CPU's."""
    one = int(precision == "int8" and compared.people > 1)  # its levels tip over: one may go, even where few are clear
    right = max(compared.lost, compared.gained) <= max(FAR_SHARE * compared.people, one)
    right = right and compared.missing <= max(FAR_SHARE * compared.points, one)
    wanted = f"{FAR_SHARE:.0%} of each at most{', or one' * one}"
    yield Row("key points", "clear people", right, compared.told(), wanted)
    yield shift_row("key points", "key points of clear people", compared.shift_px, "heat-map px")
