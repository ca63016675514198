"""The workstation's second half: m.onnx and images -> m.calibration.json and m.int8.onnx, checked on people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepose.backends import load_runtime
from edgepose.calibration.choose import Chosen
from edgepose.calibration.costs import int8_share, node_costs
from edgepose.calibration.dataset import (
    BLANK,
    HELD_OUT_SHARE,
    CalibrationImage,
    unread,
)
from edgepose.calibration.mixes import ALL, Techniques, mixed
from edgepose.calibration.results import write_int8
from edgepose.calibration.scene import Scene, set_scene
from edgepose.calibration.table import write_table
from edgepose.errors import ModelFileError
from edgepose.evaluation.metrics import shift_summary
from edgepose.io.images import turned_warning
from edgepose.io.people import left_out
from edgepose.io.watching import Watch, unwatched
from edgepose.model.passport import read_passport
from edgepose.stages.one_person import decode_outputs

CONFIDENT = 0.3  # score of the key points that are compared
FEW_CROPS = 100
SHOWN = 10  # layers that are named one by one
FAR = 1 / 64  # of the longer side of a heat map: 1 px of the usual ones
UNUSABLE_SHARE = 0.2  # of confident key points moved far: INT8 has failed

HELD_OUT_TO_CHOOSE = 3  # one image in so many where layers are chosen on those held out; as many again confirm

Choose = Callable[[Scene], Chosen]  # which layers become INT8


@dataclass(frozen=True)
class Calibrated:
    """What a calibration wrote and what INT8 does to key points.

    Attributes:
        int8, table: the files.
        reused: True if the ranges came from an earlier run with the same inputs.
        crops: people whose crops gave the ranges; `held_out` people showed the shift.
        apart: True: those are others than the ones calibrated on; False where only one image was given.
        unreadable: one line for each image that could not be read.
        unusable_boxes: boxes left out; see `PeopleBoxes`.
        shift: of key points with an FP32 score over 0.3, px of the grid: mean, p95, max, share_over_1, keypoints;
            None if there was none.
        moved_far: share of those key points that moved by more than 1/64 of that grid's longer side.
        random_weights: True: the figures mean nothing.
        turned: images whose EXIF notes a rotation, which was ignored.
        blank: people left out because their box is of one colour: a range of nothing is no range.
        kept_fp32: names of the layers whose weights or values do not fit FP16, and which stay in FP32.
        layers: names of the layers in INT8; `int8_share`: what they have of the multiply-adds, None if not known.
        chosen: how the layers were chosen; None: the usual ones are in INT8.
        scene: what it was made from.
        shift_unit: what shifts are in, `ModelSpec.grid_unit`.
    """

    int8: Path
    table: Path
    reused: bool
    crops: int
    held_out: int
    apart: bool
    unreadable: tuple[str, ...]
    unusable_boxes: int
    shift: dict[str, float | int] | None
    moved_far: float
    random_weights: bool
    turned: int = 0
    blank: int = 0
    kept_fp32: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    int8_share: float | None = None
    chosen: Chosen | None = None
    scene: Scene | None = None
    shift_unit: str = "heat-map px"

    def summary(self) -> str:
        """What was written and what INT8 costs, for people."""
        source = "ranges of an earlier run on the same people" if self.reused else f"ranges of {self.crops} people"
        share = "" if self.int8_share is None else f", {self.int8_share:.1%} of the multiply-adds"
        lines = [f"{self.int8}: {source} ({self.table})", f"{len(self.layers)} layers in INT8{share}"]
        checked = f"{self.held_out} {'held-out people' if self.apart else 'people, the same that were calibrated on'}"
        if self.shift is None:
            lines.append(f"no key point of {checked} has a score over {CONFIDENT}")
        else:
            lines.append(
                f"key points moved from FP32's by {self.shift['mean']:.3f} {self.shift_unit} on average, "
                f"{self.shift['p95']:.2f} at the 95th percentile, {self.shift['max']:.1f} at most; "
                f"{self.shift['share_over_1']:.1%} moved more than 1 px "
                f"({self.shift['keypoints']} with a score over {CONFIDENT}, of {checked})"
            )
        if self.chosen is not None:
            lines.append(self.chosen.summary())
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """What the user should know besides."""
        found = unread(self.unreadable) + left_out(self.unusable_boxes)
        if self.blank:
            found.append(f"{self.blank} people left out: their boxes are blank, of one colour to {BLANK} grey levels")
        if self.kept_fp32:
            found.append(
                f"{len(self.kept_fp32)} layers stay in FP32, because weights or values of theirs lie beyond FP16: "
                f"{', '.join(self.kept_fp32[:SHOWN])}{', …' if len(self.kept_fp32) > SHOWN else ''}"
            )
        if self.turned:
            found.append(turned_warning(self.turned))
        if self.crops < FEW_CROPS:
            found.append(f"only {self.crops} people to take ranges from; a few hundred (100 at least) are safer")
        if self.chosen is not None and (error := self.chosen.found.best.loss.error) > self.chosen.budget.value / 2:
            found.append(
                f"what a mix loses is known to ±{error:.2g} only, with a budget of {self.chosen.budget}, and at least "
                f"1.6 times that is added to be certain: give more images, or a wider budget"
            )
        if self.moved_far > UNUSABLE_SHARE and not self.random_weights:
            found.append(
                f"INT8 fails on this network: {self.moved_far:.0%} of its key points moved by more than 1/64 of "
                f"their grid ({self.shift_unit}); use the FP16 file instead, or try another --method"
            )
        if self.random_weights:
            found.append("the weights are random: this file is for timing, its key points mean nothing")
        return found


def calibrate(
    model_path: Path,
    images: Sequence[str | Path],
    boxes: Path | None = None,
    *,
    detector: Path | None = None,
    method: str,
    limit: int = 512,
    seed: int = 0,
    output_dir: Path | None = None,
    choose: Choose | None = None,
    select: int | None = None,
    techniques: Techniques = ALL,
    watch: Watch = unwatched,
) -> Calibrated:
    """Quantise an FP32 ONNX to INT8, its remainder to FP16, with ranges from images like those of its later use.

    Args:
        model_path: FP32, with its passport.
        images: files, folders and globs; boxes: COCO annotations or detection results, None: one person an image.
        detector: finds the people where no file gives their boxes.
        method: one of ranges.METHODS.
        limit: most people to use; seed: which of more.
        output_dir: where the files go; None: beside the model.
        select: take the ranges from so many people who cover all of them; None: from all.
        techniques: what is done besides rounding.
        choose: which of the layers that can be INT8 become so, and with which ranges; None: all, by `method`.
        watch: sees each step's items pass, for a progress bar.

    Raises:
        ModelFileError: the model or its passport is missing, damaged, or not FP32.
        InputError, CalibrationError: the images, boxes or model cannot be used.
    """
    scene = set_scene(
        model_path,
        images,
        boxes,
        method=method,
        limit=limit,
        seed=seed,
        detector=detector,
        held_out=HELD_OUT_SHARE if choose is None else HELD_OUT_TO_CHOOSE,
        confirm=choose is not None,
        select=select,
        techniques=techniques,
        output_dir=output_dir,
        watch=watch,
    )
    files, passport, people, ground = scene.files, scene.passport, scene.people, scene.ground
    layers, table = ground.layers, scene.table
    chosen = None
    if choose is not None:
        chosen = choose(scene)
        ground, layers = chosen.ground, chosen.layers
        if chosen.method != method:
            made_from = {**table.made_from, "method": chosen.method}
            table = replace(table, made_from=made_from, ranges=dict(ground.ranges), halves={})  # those were another's
            write_table(files.table, table)

    def judge(written: Path) -> tuple[dict[str, float], np.ndarray]:
        moved = _distances(model_path, written, people.showing, watch)
        told = {f"int8_shift_{name}": float(value) for name, value in (shift_summary(moved) or {}).items()}
        return told | ({} if chosen is None else chosen.figures()), moved

    graph = mixed(ground, layers)
    distances = write_int8(files, passport, graph, judge, prepared=ground.model, layers=layers)
    return Calibrated(
        files.int8,
        files.table,
        scene.reused,
        sum(map(len, people.fitting)),
        sum(map(len, people.showing)),
        people.showing != people.fitting,
        people.unreadable,
        people.unusable_boxes,
        shift_summary(distances),
        float((distances > FAR * max(passport.spec.grid_hw)).mean()) if len(distances) else 0.0,
        passport.random_weights,
        people.turned,
        people.blank,
        ground.keep_fp32,
        layers,
        int8_share(node_costs(ground.model), layers),
        chosen,
        scene,
        passport.spec.grid_unit,
    )


def find_model(folder: Path) -> Path:
    """The one passported FP32 ONNX in a folder.

    Raises:
        ModelFileError: there is none, or there are several.
    """
    found, others = [], []
    for path in sorted(folder.glob("*.onnx")):
        try:
            passport = read_passport(path)
        except ModelFileError:
            others.append(f"{path.name} (no passport of its own)")
            continue
        if passport.precision == "fp32":
            found.append(path)
        else:
            others.append(f"{path.name} ({passport.precision.upper()})")
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelFileError(f"several FP32 models here: {', '.join(path.name for path in found)}: choose with --model")
    seen = f"; found only: {', '.join(others)}" if others else ""
    raise ModelFileError(f"no FP32 ONNX with a passport in {folder.resolve()}{seen}: export one, or give --model FILE")


def _distances(reference: Path, quantised: Path, images: Sequence[CalibrationImage], watch: Watch) -> np.ndarray:
    """(n,) how far INT8's key points lie from FP32's, px of the spec's grid, where FP32's score is over 0.3."""
    distances = [np.empty(0)]
    with (
        closing(load_runtime(reference, backend="onnxruntime")) as exact,
        closing(load_runtime(quantised, backend="openvino", exact=True)) as int8,
    ):
        spec = exact.passport.spec
        for image in watch("comparing with FP32", images, len(images)):
            crops = image.crops(spec)
            wanted, found = (decode_outputs(runtime.run({"crops": crops}), spec)[0] for runtime in (exact, int8))
            confident = wanted[..., 2] > CONFIDENT
            distances.append(np.linalg.norm(wanted[..., :2] - found[..., :2], axis=-1)[confident])
    return np.concatenate(distances)
