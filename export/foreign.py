"""A heat-map ONNX from elsewhere -> edgepose's form, after checking that it is what its spec says."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, ValueInfoProto

from edgepose.errors import EdgeposeError, ModelFileError
from edgepose.export.drawn.crops import sample_crops
from edgepose.export.fitting import fitting_crops
from edgepose.export.graph.interface import (
    BATCH,
    INPUT,
    normalize,
    rename_tensor,
    rename_tensors,
    set_interface,
    to_opset,
)
from edgepose.export.graph.precision import refuse_lower_precision
from edgepose.export.graph.run import run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights, file_names
from edgepose.export.pipeline import Exported, Report, write_models
from edgepose.export.verify import Difference, check_fp32
from edgepose.files import check_targets, sha256_of, why_no_file
from edgepose.io.boxes import read_json
from edgepose.model.first_bytes import told_by_first_bytes
from edgepose.model.printable import printable
from edgepose.model.spec import ModelSpec

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"


def import_model(
    path: Path,
    spec: ModelSpec,
    output_dir: Path,
    *,
    outputs: Sequence[str] = (),
    report: Report = lambda step: None,
) -> Exported:
    """Check a foreign ONNX against its spec and write `SPEC.NAME.onnx` and `.fp16.onnx` with their passports.

    Its input becomes `crops`, its outputs get the names of `spec.outputs`, and others are dropped; the batch becomes
    dynamic where the graph computes the same that way; the graph is brought to opset 19 and simplified. What is
    written is compared with the original in key-point pixels, on three crops.

    Args:
        path: FP32, one (n, 3, H, W) input of normalised crops in the spec's colour order.
        outputs: the file's outputs in the order of the head's. None: those called as in `spec.outputs`; where none is
            called so, the first of a head with one, and of another head all, in their order.

    Raises:
        ModelFileError: the file cannot be read, or is not what the spec says.
        ExportError: it cannot be brought into edgepose's form without changing what it computes. No file is left.
    """
    original = open_foreign(path, spec, output_dir, report)
    _keep_interface(original, spec, path, outputs)
    crops = sample_crops(spec)
    one_by_one = [_run_checked(original, crops[index : index + 1], spec, path) for index in range(len(crops))]
    reference = [np.concatenate(parts) for parts in zip(*one_by_one, strict=True)]
    report("simplifying the graph")
    batch, simplified, difference = _bring_into_form(original, spec, crops, reference)
    if batch != BATCH:
        report(f"the graph works for {batch} crop at a time only; it stays so")
    return write_models(simplified, spec, Weights(path.name, sha256_of(path)), difference, output_dir, report=report)


def read_spec(path: Path) -> ModelSpec:
    """Read a spec a user wrote.

    Raises:
        InputError: the file is no JSON, or a pipe.
        ModelFileError: it is missing, or is not a spec; its name must be fit for a file's.
    """
    if not path.exists():
        raise ModelFileError(f"{path}: no such file; docs/spec.md says what a spec holds")
    try:
        spec = ModelSpec.from_json(read_json(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    if not re.fullmatch(_NAME, spec.name):
        raise ModelFileError(
            f"{path}: name {spec.name[:40]!r} names the files to write; wanted at most 100 letters A-Z and a-z, "
            f"digits, '-', '_' and '.', and no '.' in front"
        )
    return spec


def open_foreign(path: Path, spec: ModelSpec, output_dir: Path, report: Report = lambda step: None) -> onnx.ModelProto:
    """An FP32 ONNX file that is to become the spec's pair in a folder.

    Raises:
        OSError: the pair cannot be written there.
        ModelFileError: the file is none, or is one of those that would be written.
    """
    check_targets(output_dir, file_names(spec))
    if path.resolve() in {(output_dir / name).resolve() for name in file_names(spec)}:
        raise ModelFileError(f"{path} would be overwritten: choose another folder with -o, or another name in the spec")
    report(f"reading {path.name}")
    return load_foreign(path)


def load_foreign(path: Path) -> onnx.ModelProto:
    """An FP32 ONNX file; ModelFileError if it is none."""
    if not path.is_file():
        raise ModelFileError(f"{path}: {why_no_file(path)}")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["damaged"])[0].rstrip(".")
        cause = told_by_first_bytes(path) or _told_of_zip(path) or f"{why}; fetch or export it again"
        raise ModelFileError(f"{path} is not a valid ONNX file: {cause}") from error
    if not model.graph.node:
        raise ModelFileError(f"{path} is not a valid ONNX file: it holds no operators")
    refuse_lower_precision(model, path)
    return model


def _told_of_zip(path: Path) -> str:
    """What a zip archive in place of an ONNX file is; empty of another file, or of one that cannot be read as such."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""
    if any(name.endswith("/data.pkl") for name in names):
        return "it is a PyTorch checkpoint; `edgepose export` reads those of networks that it knows"
    within = next((name for name in names if name.endswith(".onnx")), "")
    return f"it is a zip archive; unpack it first{f', it holds {printable(within)}' if within else ''}"


def _keep_interface(model: onnx.ModelProto, spec: ModelSpec, path: Path, chosen: Sequence[str]) -> None:
    """Leave one input and the head's outputs, under edgepose's names, with shapes that the spec allows."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelFileError(f"{path} has {len(inputs)} inputs ({names}), wanted one: the crops")
    outputs = {value.name: value for value in graph.output}
    if not outputs:
        raise ModelFileError(f"{path} has no output: export it anew, with the heat maps as its output")
    check_value(inputs[0], (3, *spec.image.size_hw), "input", path)
    try:
        of_name = _chosen(outputs, spec, path, chosen)
        for name, theirs in of_name.items():
            check_value(outputs[theirs], tuple(size or 0 for size in spec.outputs[name]), "output", path)
    except ModelFileError as error:
        known = fitting_crops({name: sizes_of(value) for name, value in outputs.items()}, spec)
        raise ModelFileError(f"{error}; {known}") if known else error from None
    for field, kept in ((graph.input, [inputs[0]]), (graph.output, [outputs[theirs] for theirs in of_name.values()])):
        copies = [ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
        del field[:]
        field.extend(copies)
    rename_tensor(graph, graph.input[0].name, INPUT)
    rename_tensors(graph, {theirs: name for name, theirs in of_name.items()})


def _chosen(outputs: Collection[str], spec: ModelSpec, path: Path, chosen: Sequence[str]) -> dict[str, str]:
    """The head's names of outputs -> the file's."""
    wanted = list(spec.outputs)
    if chosen and len(chosen) != len(wanted):
        raise ModelFileError(
            f"{path}: its {spec.head.kind} head has {len(wanted)} outputs ({', '.join(wanted)}), and "
            f"--output-name says {', '.join(chosen)}"
        )
    if not chosen:
        in_order = not set(wanted) & set(outputs) and len(wanted) in (1, len(outputs))
        chosen = list(outputs)[: len(wanted)] if in_order else wanted
    pairs = dict(zip(wanted, chosen, strict=True))
    for theirs in pairs.values():
        if theirs not in outputs:
            raise ModelFileError(
                f"{path} has no output {theirs}, which its {spec.head.kind} head wants; it has: {', '.join(outputs)}"
            )
    return pairs


def sizes_of(value: ValueInfoProto) -> list[int | None]:
    """The sizes that a graph declares; None is open."""
    dims = value.type.tensor_type.shape.dim
    return [size.dim_value if size.HasField("dim_value") else None for size in dims]


def check_value(value: ValueInfoProto, wanted: Sequence[int | None], role: str, path: Path) -> None:
    """Compare the sizes and the type that the graph declares with (n, *wanted) float32; open sizes fit anything."""
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelFileError(
            f"{path}: {role} {value.name} is {found}, wanted float32; edgepose makes FP16 and INT8 itself"
        )
    sizes = sizes_of(value)
    if not sizes:  # no shape is declared; running it will tell
        return
    found = "x".join("?" if size is None else str(size) for size in sizes)
    same_rank = len(sizes) == len(wanted) + 1
    if same_rank and all(size in (None, want) for size, want in zip(sizes[1:], wanted, strict=True)):
        if sizes[0] in (None, 1):
            return
        raise ModelFileError(
            f"{path}: {role} {value.name} is {found}, a batch of {sizes[0]}; wanted 1 or a dynamic one: export it anew"
        )
    text = "x".join(map(str, wanted))
    if len(sizes) == 4 and same_rank and sizes[1:] == [*wanted[1:], wanted[0]]:
        raise ModelFileError(
            f"{path}: {role} {value.name} is {found}, channels last; wanted channels first, nx{text}: "
            f"convert it with the layout NCHW"
        )
    raise ModelFileError(
        f"{path}: {role} {value.name} is {found}, but the spec says nx{text}: correct the spec"
        + (", or name another output" if role == "output" else ", or take the preset of that size")
    )


def _run_checked(model: onnx.ModelProto, crop: np.ndarray, spec: ModelSpec, path: Path) -> list[np.ndarray]:
    found = run_onnx(model, crop)
    for (name, wanted), values in zip(spec.outputs.items(), found, strict=True):
        what = "heat maps" if name == "heatmaps" else name
        if values.shape != (1, *wanted):
            raise ModelFileError(
                f"{path} gives {'x'.join(map(str, values.shape))} for one crop, but the spec says "
                f"1x{'x'.join(map(str, wanted))}: correct the spec, or name another output"
            )
        if not np.isfinite(values).all():
            raise ModelFileError(f"{path} gives NaN or infinite {what}; its weights are damaged")
        if np.ptp(values) == 0:
            raise ModelFileError(f"{path} gives {what} of {values.flat[0]:g} alone; its weights are lost")
    return found


def _bring_into_form(
    original: onnx.ModelProto, spec: ModelSpec, crops: np.ndarray, reference: Sequence[np.ndarray]
) -> tuple[int | str, onnx.ModelProto, Difference]:
    """Opset, batch and onnxsim; of a dynamic batch and a batch of one the first that computes the same."""
    try:
        return BATCH, *_formed(original, spec, crops, reference, BATCH)
    except EdgeposeError:
        return 1, *_formed(original, spec, crops[:1], [values[:1] for values in reference], 1)


def _formed(
    original: onnx.ModelProto, spec: ModelSpec, crops: np.ndarray, reference: Sequence[np.ndarray], batch: int | str
) -> tuple[onnx.ModelProto, Difference]:
    model = normalize(to_opset(original))
    set_interface(model, spec, batch)
    simplified = simplify(model)
    set_interface(simplified, spec, batch)  # onnxsim may have taken over a batch of one from a Reshape it dropped
    difference = check_fp32(
        reference, run_onnx(simplified, crops), spec, "the simplified graph differs from the original"
    )
    return simplified, difference
