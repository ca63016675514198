"""The whole chain on the embedded model: export, calibrate, run in three precisions, measure, show."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edgepose.backends import Backend, load_backend
from edgepose.benchmarks.latency import measure
from edgepose.calibration.pipeline import calibrate
from edgepose.errors import InputError, MissingPackageError
from edgepose.estimate.detect import find_people, load_detector
from edgepose.estimate.lift import lift_frames, open_lifter
from edgepose.estimate.top_down import estimate_poses
from edgepose.evaluation.accuracy import Evaluation
from edgepose.evaluation.evaluate import annotated_boxes, evaluate, image_path
from edgepose.evaluation.report import record_accuracy
from edgepose.export.drawn.people import write_people
from edgepose.export.drawn.scene import draw_scene
from edgepose.export.pipeline import export_model
from edgepose.export.space import export_space_model
from edgepose.export.zoo.find import find_model
from edgepose.export.zoo.space import find_space_model
from edgepose.files import write_bytes, write_json
from edgepose.io.annotations import read_annotations
from edgepose.io.html import Picture, Section, html_page, jpeg
from edgepose.io.images import read_image
from edgepose.io.overlay import draw_poses
from edgepose.io.space import find_matplotlib, with_positions
from edgepose.stages.geometry import boxes_in_view
from edgepose.stages.nms import suppress
from edgepose.stages.similarity import box_iou

MODEL = "simplebaseline_tiny"
CALIBRATION_PEOPLE, EVALUATION_PEOPLE = 150, 100
LIFTER = "lifter_tiny"
SHOWN, LIFTED = 6, 3
METHOD = "mse"
THREADS = 1
SCENE_PEOPLE, SCENE_SEED, SCENE_MIN_SCORE = 4, 1, 0.3
SPEED_SECONDS = 1.0  # for each file
MEASURED, FIGURES = "measured.json", "accuracy.json"  # annotations of what is measured on, and the result


@dataclass(frozen=True)
class Demo:
    """What the demo made: accuracies, the network's speed in words, the page, and the folder of overlays."""

    evaluation: Evaluation
    speed: str
    page: Path
    overlays: Path


@dataclass(frozen=True)
class _Pictures:
    """Which images to calibrate with and which to measure on.

    Attributes:
        calibration: image files; calibration_boxes: COCO annotations that have their boxes.
        folder: of the images to measure on; annotations: COCO, of those alone.
        about: what they are, for the page.
    """

    calibration: list[Path]
    calibration_boxes: Path
    folder: Path
    annotations: Path
    about: str


def run_demo(
    output: Path,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> Demo:
    """Run the chain and write models, overlays, accuracy.json and index.html into `output`.

    Args:
        images, annotations: the user's own annotated people, the even images to calibrate with and the odd ones to
            measure on; None: people drawn for the occasion, the same every time.
        report: called with each step's name as it starts.

    Raises:
        EdgeposeError: from any of the steps.
        OSError: `output` cannot be written; nothing has been computed.
    """
    if (images is None) != (annotations is None):
        raise ValueError("images and annotations go together")
    output.mkdir(parents=True, exist_ok=True)
    if images is None or annotations is None:
        report(f"drawing {CALIBRATION_PEOPLE + EVALUATION_PEOPLE} people")
        pictures = _drawn_pictures(output / "people")
    else:
        pictures = _own_pictures(images, annotations, output)
    exported = export_model(find_model(MODEL), output, report=report)
    report(f"calibrating INT8 with {len(pictures.calibration)} images")
    calibrated = calibrate(exported.fp32, pictures.calibration, pictures.calibration_boxes, method=METHOD)
    models = [exported.fp32, exported.fp16, calibrated.int8]
    report("running FP32, FP16 and INT8")
    # one thread: a network this small gains nothing from more, and loses much where others use the machine too
    evaluation = evaluate(models, pictures.folder, pictures.annotations, threads=THREADS)
    record_accuracy(evaluation)
    write_json(output / FIGURES, evaluation.to_json())
    report("timing them")
    speed = _speed(models)
    report("drawing what they found")
    shown = _overlays(models, pictures, output / "overlays")
    report("finding several people in one picture")
    scene = _scene(models[-1], output)
    report("lifting some into space")
    space = _in_space(models[0], pictures, output)
    page = output / "index.html"
    text = _page(evaluation, speed, pictures, calibrated.summary().splitlines()[-1], shown, scene, space)
    write_bytes(page, text.encode())
    return Demo(evaluation, speed, page, output / "overlays")


def _speed(models: list[Path]) -> str:
    """How much faster the network runs in each file than in the first, in words; as `infer` runs it."""
    with ExitStack() as stack:
        backends: list[Backend] = [stack.enter_context(closing(load_backend(e, threads=THREADS))) for e in models]
        first, *others = measure(backends, batch=1, seconds=SPEED_SECONDS).rows
        ratios = [
            f"{row.precision.upper()} {first.stages_ms['network'] / row.stages_ms['network']:.1f}x" for row in others
        ]
        kernels = backends[-1].arithmetic
    return f"The network's speed here on one thread, FP32 = 1: {', '.join(ratios)} (INT8 in {kernels})"


def _drawn_pictures(folder: Path) -> _Pictures:
    boxes = write_people(folder / "calibration", CALIBRATION_PEOPLE, seed=1)
    annotations = write_people(folder / "evaluation", EVALUATION_PEOPLE, seed=2)
    about = "People drawn by edgepose itself, so the figures say nothing about photographs."
    return _Pictures(sorted(boxes.parent.glob("*.jpg")), boxes, annotations.parent, annotations, about)


def _own_pictures(images: Path, annotations: Path, output: Path) -> _Pictures:
    """Split the user's images: even ones to calibrate with, odd ones to measure on, whose annotations are written."""
    if annotations.resolve() in ((output / name).resolve() for name in (MEASURED, FIGURES)):
        raise InputError(f"{annotations}: the demo would write its own file there; give it another name")
    posed = [image for image in read_annotations(annotations).images if image.posed.any()]
    if len(posed) < 2:
        raise InputError(
            f"{annotations}: annotated people in only one image; the demo needs some to measure on as well"
        )
    for half in (posed[::2], posed[1::2]):
        if not any(os.path.isfile(image_path(images, image.file_name)) for image in half):
            raise InputError(
                f"{images} has none of the images {half[0].file_name}, … that {annotations} names; "
                f"give the folder that they are in with --images"
            )
    measured = {image.image_id for image in posed[1::2]}
    data = json.loads(annotations.read_bytes())
    for key, image_id in (("images", "id"), ("annotations", "image_id")):
        data[key] = [entry for entry in data[key] if entry[image_id] in measured]
    write_json(output / MEASURED, data)
    about = f"{len(measured)} of the images of {annotations.name}; INT8 was calibrated with the others."
    return _Pictures(
        [image_path(images, image.file_name) for image in posed[::2]],
        annotations,
        images,
        output / MEASURED,
        about,
    )


def _overlays(models: list[Path], pictures: _Pictures, folder: Path) -> list[Picture]:
    """Draw each file's poses on the first images that can be read, write them as JPEG, and give them for the page."""
    shown: list[Picture] = []
    with ExitStack() as stack:
        backends: list[Backend] = [
            stack.enter_context(closing(load_backend(e, threads=THREADS, exact=True))) for e in models
        ]
        for name, image, boxes in islice(_people(pictures), SHOWN):
            for backend in backends:
                overlay = draw_poses(image, estimate_poses(backend, image, boxes), backend.spec.skeleton)
                precision = backend.passport.precision
                write_bytes(folder / f"{Path(name).stem}.{precision}.jpg", jpeg(overlay))
                shown.append(Picture(overlay, f"{Path(name).name}, {precision.upper()}"))
    return shown


def _scene(model: Path, folder: Path) -> Picture:
    """Several drawn people in one picture, found by the small detector that comes along."""
    image, boxes = draw_scene(SCENE_PEOPLE, SCENE_SEED)
    with closing(load_detector(threads=THREADS)) as detector, closing(load_backend(model, threads=THREADS)) as backend:
        found, scores = find_people(detector, image, min_score=SCENE_MIN_SCORE)
        kept = suppress(found, scores, 0.5)
        poses = estimate_poses(backend, image, found[kept])
        overlay = draw_poses(image, poses, backend.spec.skeleton)
    write_bytes(folder / "scene.jpg", jpeg(overlay))
    hits = int((box_iou(boxes, found[kept]).max(axis=1, initial=0) > 0.5).sum())
    return Picture(overlay, f"{len(kept)} boxes found, {hits} of the {len(boxes)} people drawn")


def _people(pictures: _Pictures) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """File name, pixels and annotated boxes of each image to measure on that can be read."""
    for entry in read_annotations(pictures.annotations).images:
        if not entry.posed.any():
            continue
        try:
            image = read_image(image_path(pictures.folder, entry.file_name))
        except InputError:  # the evaluation has named it
            continue
        boxes = annotated_boxes(entry, image.shape[:2])[entry.posed].astype(np.float32)
        yield entry.file_name, image, boxes[boxes_in_view(boxes, image.shape[:2])]


def _in_space(model: Path, pictures: _Pictures, output: Path) -> Section:
    """Some people's positions in space beside them; without matplotlib what is missing."""
    title = "Where their key points are in space"
    try:
        find_matplotlib()
    except MissingPackageError as error:
        return Section(title, [f"Left out: {error}."])
    lifter = open_lifter(export_space_model(find_space_model(LIFTER), output).fp32, threads=THREADS)
    shown = []
    with closing(load_backend(model, threads=THREADS)) as backend:
        for name, image, boxes in islice(_people(pictures), LIFTED):
            poses = estimate_poses(backend, image, boxes)
            xyz = lift_frames(lifter, [poses], backend.spec.skeleton, image.shape[1::-1])[0]
            overlay = draw_poses(image, poses, backend.spec.skeleton)
            shown.append(Picture(with_positions(overlay, xyz, lifter.skeleton), Path(name).name))
    about = (
        f"{LIFTER}, a small network for trying this, makes positions in metres around the pelvis of FP32's key points: "
        f"seen from the camera, and from the picture's right."
    )
    return Section(title, [about], pictures=shown, columns=1)


def _page(
    evaluation: Evaluation,
    speed: str,
    pictures: _Pictures,
    calibration: str,
    shown: list[Picture],
    scene: Picture,
    space: Section,
) -> str:
    intro = (
        f"{MODEL} was exported, calibrated and run on this computer's CPU in three precisions. It is a small network "
        f"for trying the tool; the same steps turn published networks into files for a Jetson."
    )
    figures = Section(
        "What each precision costs",
        [
            "AP and AR compare whole poses with the truth. PCK@0.2 is the share of limb points within a fifth of the "
            "torso's length, PCKh@0.5 that of all points within half a head. In brackets the difference to FP32.",
            f"{'; '.join(evaluation.held_for())}. {speed}.",
            f"INT8 on people kept from calibration: {calibration}.",
            *evaluation.notes(),
        ],
        evaluation.rows()[1:],  # the page names the model already
    )
    gallery = Section(
        "What they found",
        ["The person's left is orange, the right is blue. Each image in all precisions."],
        pictures=shown,
    )
    several = Section(
        "Several people in one picture",
        ["Drawn people, found by the small detector that comes along; their key points are INT8's."],
        pictures=[scene],
        columns=1,
    )
    about = Section("What this is", [intro, pictures.about])
    return html_page("edgepose demo", [about, figures, gallery, several, space])
