"""The models that the acceptance run builds, and the frame that they see; made where PyTorch is, carried elsewhere.

simplebaseline_tiny has trained weights and sees drawn people: its key points mean something, and it is small.
SimpleBaseline-R50 has random weights: the network whose speed is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepose.benchmarks.gpu.launch import KERNELS
from edgepose.benchmarks.latency import make_frame
from edgepose.cuda.nvcc import TARGETS, compile_kernels
from edgepose.errors import EdgeposeError
from edgepose.evaluation.evaluate import annotated_boxes
from edgepose.files import sha256_of, write_bytes
from edgepose.io.annotations import read_annotations
from edgepose.io.images import read_image
from edgepose.model.passport import PRECISIONS, passport_path, read_passport, write_passport

MODELS = {"simplebaseline_tiny": "auto", "simplebaseline": "random"}  # and their weights
CALIBRATION_PEOPLE = 24  # enough for ranges of random weights, and for a comparison of GPU and CPU
HALVED = "simplebaseline_tiny"  # comes with FP16 inputs and outputs as well
PEOPLE = 3  # in the frame, side by side
LARGE_MIB = 60  # what a bundle may take in all
FRAME, BOXES = "frame.npy", "boxes.npy"
FAULTY = "faulty"  # folder of a network with one wrong layer

Report = Callable[[str], None]


def prepare(folder: Path, names: Sequence[str], report: Report) -> None:
    """Write each model in FP32, FP16 and INT8, the frame and its boxes, and the kernels for all targets.

    Raises:
        MissingPackageError: this is no workstation.
        EdgeposeError: a model cannot be exported or calibrated, or there is no nvcc.
    """
    from edgepose.export import require_workstation

    require_workstation()
    from edgepose.calibration.pipeline import calibrate
    from edgepose.export.drawn.people import write_people
    from edgepose.export.pipeline import export_model
    from edgepose.export.zoo.find import find_model

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        annotations = write_people(Path(temporary), CALIBRATION_PEOPLE, seed=1)
        pictures = sorted(Path(temporary).glob("*.jpg"))
        for name in names:
            report(f"exporting {name}")
            exported = export_model(find_model(name), folder, weights=MODELS[name])
            if name == HALVED:
                _halve_a_copy(exported.fp16)
                spoil_a_copy(exported.fp16, folder / FAULTY)
            report(f"calibrating {name}")
            calibrate(exported.fp32, pictures, annotations, method="mse")
        for path in folder.glob("*.calibration.json"):  # which only calibrate reads
            path.unlink()
        image, boxes = _side_by_side(Path(temporary), annotations)
    np.save(folder / FRAME, image)
    np.save(folder / BOXES, boxes)
    report("compiling the kernels")
    write_bytes(folder / KERNELS, compile_kernels(TARGETS).fatbin)


def _halve_a_copy(fp16: Path) -> None:
    """The same network with FP16 crops and heat maps, as NAME.io.fp16.onnx: is it faster so?"""
    from edgepose.export.graph.half_io import halve_io

    copy = fp16.with_name(fp16.name.replace(".fp16.onnx", ".io.fp16.onnx"))
    for source, target in ((fp16, copy), (passport_path(fp16), passport_path(copy))):
        write_bytes(target, source.read_bytes())
    halve_io(copy)


def spoil_a_copy(source: Path, folder: Path) -> None:
    """The same network with the weights of its middle convolution 1.25 times as large, and that layer's name."""
    import onnx

    model = onnx.load(source)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    wrong = convolutions[len(convolutions) // 2]
    for tensor in model.graph.initializer:
        if tensor.name == wrong.input[1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.25, tensor.name))
    folder.mkdir(exist_ok=True)
    copy = folder / source.name
    onnx.save(model, copy)
    write_passport(copy, replace(read_passport(source), sha256=sha256_of(copy)))
    (folder / "layer.txt").write_text(wrong.name, encoding="utf-8")


def leave_out_large(folder: Path) -> None:
    """Delete the FP32 and FP16 files of a network whose FP32 file is over LARGE_MIB; its INT8 file is what is timed."""
    for fp32 in find_models(folder, "fp32"):
        if fp32.stat().st_size > LARGE_MIB << 20:
            for path in (fp32, fp32.with_name(f"{fp32.stem}.fp16.onnx")):
                path.unlink(missing_ok=True)
                passport_path(path).unlink(missing_ok=True)


def bundle_lines(folder: Path) -> list[str]:
    """What a bundle holds, and what is damaged or missing in it; each file is read and held against its passport."""
    lines, whole = [], 0
    for path in sorted(folder.rglob("*.onnx")):
        try:
            read_passport(path)
            whole += 1
        except EdgeposeError as error:
            lines.append(f"{path}: {error}")
    try:
        image, boxes = read_frame(folder)
        found = f"{len(boxes)} people in a frame of {image.shape[1]}x{image.shape[0]}"
    except (OSError, ValueError) as error:
        lines.append(f"{folder / FRAME}, {folder / BOXES}: not readable ({error}): make it anew with --prepare")
        found = "no frame"
    missing = [name for name in (KERNELS, FRAME, BOXES, FAULTY) if not (folder / name).exists()]
    lines += [f"{folder / name} is missing: make it anew with --prepare" for name in missing]
    return [f"{folder}: {whole} networks that fit their passports, {found}", *lines]


def _side_by_side(folder: Path, annotations: Path) -> tuple[np.ndarray, np.ndarray]:
    """PEOPLE pictures of a person each as one 1080p frame, and the people's boxes."""
    frame, _ = make_frame(1)
    boxes, left = [], 0
    for entry in read_annotations(annotations).images[:PEOPLE]:
        picture = read_image(folder / entry.file_name)
        height, width = picture.shape[:2]
        frame[:height, left : left + width] = picture
        boxes.append(annotated_boxes(entry, (height, width))[0] + (left, 0, left, 0))
        left += width
    return frame, np.array(boxes, np.float32)


def find_models(folder: Path, precision: str) -> list[Path]:
    """The ONNX files of that precision in a folder, the smallest first."""
    assert precision in PRECISIONS
    found = [path for path in folder.glob("*.onnx") if read_passport(path).precision == precision]
    return sorted(found, key=lambda path: path.stat().st_size)


def read_frame(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 and boxes (N, 4) of the folder; waves, with boxes anywhere, where it has none."""
    if (folder / FRAME).is_file() and (folder / BOXES).is_file():
        return np.load(folder / FRAME), np.load(folder / BOXES)
    return make_frame(PEOPLE)
