"""An ONNX from elsewhere that takes whole images -> edgepose's form, after checking that it is what its spec says.

Person detectors and networks that give whole people share this; what a difference means, each says itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepose.backends import load_runtime
from edgepose.errors import EdgeposeError, ExportError, ModelFileError
from edgepose.export.foreign import load_foreign, open_foreign, sizes_of
from edgepose.export.graph.edit import replace_nodes
from edgepose.export.graph.fp16 import to_fp16
from edgepose.export.graph.interface import BATCH, normalize, rename_tensor, rename_tensors, to_opset
from edgepose.export.graph.last_layers import ending_of
from edgepose.export.graph.run import beyond_fp16, run_onnx
from edgepose.export.graph.simplify import simplify
from edgepose.export.pair import Weights, write_pair
from edgepose.files import sha256_of
from edgepose.model.shapes import as_text, fits_shape
from edgepose.model.spec import ModelSpec

Arrays = Mapping[str, np.ndarray]
Compare = Callable[[Arrays, Arrays], dict[str, float]]
PIXEL_TYPES = (TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8)  # in which published files take pictures
PIXELS, SCORE = "px", "score"  # what differences are of: places of the surest, px of the input, and scores
FP32_LIMITS = {PIXELS: 0.1, SCORE: 1e-3}
FP16_LIMITS = {PIXELS: math.inf, SCORE: 0.05}  # the surest boxes of noise may move by anything that is finite


@dataclass(frozen=True)
class ImportedImages:
    """The files that were written, and how far each is from the original: of `PIXELS` and `SCORE`."""

    fp32: Path
    fp16: Path
    fp32_difference: dict[str, float]
    fp16_difference: dict[str, float]
    batch: int | str

    def summary(self) -> str:
        """What was written, for people."""
        one = "; it takes one picture at a time" if self.batch == 1 else ""
        rows = ((self.fp32, self.fp32_difference), (self.fp16, self.fp16_difference))
        return "\n".join(
            f"{path}: on drawn noise what it finds lies within {found[PIXELS]:.1e} px, and scores are within "
            f"{found[SCORE]:.1e}, of the original's{one}"
            for path, found in rows
        )


def input_size(path: Path, hint: str = "") -> tuple[int, int]:
    """Height and width of the pictures that a file takes, channels first or last.

    Raises:
        ModelFileError: it has no fixed size, or cannot be read.
    """
    sizes = sizes_of(_input(load_foreign(path), path))
    size = tuple(sizes[1:3] if len(sizes) == 4 and sizes[3] == 3 else sizes[2:])
    if len(sizes) != 4 or None in size:
        raise ModelFileError(f"{path}: its input has no fixed size ({as_text(sizes)}); export it with one{hint}")
    return int(size[0] or 0), int(size[1] or 0)


def import_images(
    path: Path,
    spec: ModelSpec,
    output_dir: Path,
    compare: Compare,
    *,
    outputs: Sequence[str] = (),
    hint: Callable[[Mapping[str, Sequence[int | None]]], str] = lambda found: "",
) -> ImportedImages:
    """Check a foreign ONNX against its spec and write `NAME.onnx` and `NAME.fp16.onnx` with their passports.

    Its input becomes `images`, (n, 3, H, W) float32; channels last and whole numbers, as TensorFlow's files have them,
    are brought into that. Its outputs get the names that the head gives them, others are dropped; the graph is brought
    to opset 19 and simplified, its batch becomes dynamic where it computes the same that way. What is written is
    compared with the original on noise and smooth pictures, FP16 with every result rounded to it. In the FP16 file
    what is behind the last layers is in single precision: of a position of over 512 px, FP16 has only halves.

    Args:
        compare: gives how far outputs are from the original's, of `PIXELS` and `SCORE`.
        outputs: the file's outputs in the order of the head's; none: by their names or, where these differ, their
            shapes and order.
        hint: what outputs of such sizes may be, for the message that they do not fit.

    Raises:
        ModelFileError: the file cannot be read, or is not what the spec says.
        ExportError: it cannot be brought into edgepose's form without changing what it computes. No file is left.
    """
    original = open_foreign(path, spec, output_dir)
    _keep_interface(original, spec, path, outputs, hint)
    pictures = sample_pictures(spec)
    singles = [_run(original, pictures[i : i + 1], spec, path) for i in range(len(pictures))]
    try:
        batch: int | str = BATCH
        simplified, verified = _formed(original, spec, pictures, singles, compare, path, BATCH)
    except EdgeposeError:
        batch = 1
        simplified, verified = _formed(original, spec, pictures[:1], singles[:1], compare, path, 1)
    half = to_fp16(simplified, keep_fp32=[*beyond_fp16(simplified, pictures[:1]), *ending_of(simplified).behind])

    def judge(fp32: Path, fp16: Path) -> tuple[dict[str, float], dict[str, float]]:
        with closing(load_runtime(fp16, exact=True, store_fp16=True, backend="openvino")) as runtime:
            (name,) = spec.inputs
            found = [runtime.run({name: pictures[i : i + 1]}) for i in range(len(singles))]
        in_half = _largest(compare(*pair) for pair in zip(singles, found, strict=True))
        _check(in_half, FP16_LIMITS, f"{path}: the FP16 graph")
        return _entries("fp16", in_half), in_half

    weights = Weights(path.name, sha256_of(path))
    entries = _entries("fp32", verified)
    fp32, fp16, in_half = write_pair(simplified, half, spec, weights, entries, judge, output_dir)
    return ImportedImages(fp32, fp16, verified, in_half, batch)


def _input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise ModelFileError(
            f"{path} has {len(inputs)} inputs ({names}), wanted one, the images: export it without its post-processing"
        )
    return inputs[0]


def _keep_interface(
    model: onnx.ModelProto,
    spec: ModelSpec,
    path: Path,
    chosen: Sequence[str],
    hint: Callable[[Mapping[str, Sequence[int | None]]], str],
) -> None:
    """Leave one input and the head's outputs, under edgepose's names, with shapes that the spec allows."""
    image = _input(model, path)
    ((wanted_name, wanted),) = spec.inputs.items()
    sizes, kind = sizes_of(image), image.type.tensor_type.elem_type
    last = len(sizes) == 4 and sizes[3] == 3 and sizes[1] != 3
    planes = [sizes[0], sizes[3], *sizes[1:3]] if last else sizes
    if len(planes) != 4 or not fits_shape(planes[1:], wanted):
        raise ModelFileError(f"{path}: input {image.name} is {as_text(sizes)}, the spec says N, {as_text(wanted)}")
    if kind not in PIXEL_TYPES:
        raise ModelFileError(f"{path}: input {image.name} is {TensorProto.DataType.Name(kind).lower()}, wanted float32")
    found = {value.name: value for value in model.graph.output}
    of_name = _pair(found, spec, path, chosen, hint)
    kept = [found[of_name[name]] for name in spec.outputs]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    rename_tensors(model.graph, {old: name for name, old in of_name.items()})
    rename_tensor(model.graph, image.name, wanted_name)
    del model.graph.input[:]
    shape = [sizes[0] or BATCH, *wanted]
    model.graph.input.append(helper.make_tensor_value_info(wanted_name, TensorProto.FLOAT, shape))
    _feed(model, wanted_name, kind, channels_last=last)


def _feed(model: onnx.ModelProto, name: str, kind: int, *, channels_last: bool) -> None:
    """Between the input, float32 planes, and whoever reads it put what makes of it the pictures of the file."""
    steps: list[tuple[str, dict[str, Any]]] = []
    if channels_last:
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    if kind != TensorProto.FLOAT:
        steps.append(("Cast", {"to": kind}))
    if not steps:
        return
    names = [name, *(f"{name}_{operator.lower()}" for operator, _ in steps)]
    for node in model.graph.node:
        for index, used in enumerate(node.input):
            node.input[index] = names[-1] if used == name else used
    before = [
        helper.make_node(operator, [source], [target], **attributes)
        for (operator, attributes), source, target in zip(steps, names[:-1], names[1:], strict=True)
    ]
    replace_nodes(model, [*before, *model.graph.node])


def _pair(
    found: Mapping[str, onnx.ValueInfoProto],
    spec: ModelSpec,
    path: Path,
    chosen: Sequence[str],
    hint: Callable[[Mapping[str, Sequence[int | None]]], str],
) -> dict[str, str]:
    """The head's names of outputs -> the file's."""
    wanted = spec.outputs
    if chosen:
        missing = [name for name in chosen if name not in found]
        if missing or len(chosen) != len(wanted):
            raise ModelFileError(
                f"{path} has the outputs {', '.join(found)}; wanted {len(wanted)} of them, for {', '.join(wanted)}; "
                f"got {', '.join(chosen)}"
            )
        return dict(zip(wanted, chosen, strict=True))
    sizes = {name: sizes_of(value) for name, value in found.items()}
    if set(wanted) <= set(found) and all(fits_shape(sizes[name][1:], shape) for name, shape in wanted.items()):
        return {name: name for name in wanted}
    pairs: dict[str, str] = {}
    for name, shape in wanted.items():
        fitting = [o for o, size in sizes.items() if o not in pairs.values() and fits_shape(size[1:], shape)]
        if not fitting:
            told = "; ".join(f"{o} {as_text(size)}" for o, size in sizes.items())
            more = hint(sizes) or "is it another kind of network, or another number of classes or key points?"
            raise ModelFileError(f"{path}: no output fits {name} (N, {as_text(shape)}); it has {told}: {more}")
        pairs[name] = name if name in fitting else fitting[0]
    return pairs


def sample_pictures(spec: ModelSpec) -> np.ndarray:
    """(3, 3, H, W) float32: noise, a smooth picture, and grey, of whole grey levels."""
    rng = np.random.default_rng(0)
    height, width = spec.image.size_hw
    coarse = rng.uniform(0, 255, (3, 8, 8)).astype(np.float32)
    smooth = np.kron(coarse, np.ones((1, -(-height // 8), -(-width // 8)), np.float32))[:, :height, :width]
    pixels = np.stack([rng.uniform(0, 255, (3, height, width)), smooth, np.full((3, height, width), 127.0)]).round()
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (spec.image.mean, spec.image.std))
    return np.ascontiguousarray((pixels - mean) / std, np.float32)


def _run(model: onnx.ModelProto, pictures: np.ndarray, spec: ModelSpec, path: Path) -> dict[str, np.ndarray]:
    outputs = dict(zip(spec.outputs, run_onnx(model, pictures, list(spec.outputs)), strict=True))
    for name, shape in spec.outputs.items():
        if not fits_shape(outputs[name].shape[1:], shape) or len(outputs[name]) != len(pictures):
            raise ModelFileError(f"{path} gives {name} of {outputs[name].shape}, the spec says N, {as_text(shape)}")
    return outputs


def _formed(
    original: onnx.ModelProto,
    spec: ModelSpec,
    pictures: np.ndarray,
    singles: Sequence[Arrays],
    compare: Compare,
    path: Path,
    batch: int | str,
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Opset, batch and onnxsim; and how far that is from what the original gave, picture by picture."""
    model = normalize(to_opset(original))
    _set_batch(model, batch)
    simplified = simplify(model)
    _set_batch(simplified, batch)
    found = _run(simplified, pictures, spec, path)
    each = [{name: values[i : i + 1] for name, values in found.items()} for i in range(len(singles))]
    verified = _largest(compare(*pair) for pair in zip(singles, each, strict=True))
    _check(verified, FP32_LIMITS, f"{path}: the simplified graph")
    return simplified, verified


def _largest(differences: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each kind of difference the largest; a NaN is larger than any."""
    every = list(differences)
    return {name: round(float(np.max([one[name] for one in every])), 8) for name in every[0]}


def _entries(precision: str, found: Mapping[str, float]) -> dict[str, float]:
    """For a passport."""
    return {f"{precision}_{name}": value for name, value in found.items()}


def _check(found: Mapping[str, float], limits: Mapping[str, float], what: str) -> None:
    if not all(found[name] <= limits[name] for name in found):  # False for NaN
        told = " and ".join(f"{name} {value:.3g} (at most {limits[name]:g})" for name, value in found.items())
        raise ExportError(f"{what} differs from the original by {told}; no file was written")


def _set_batch(model: onnx.ModelProto, batch: int | str) -> None:
    """The first size of the input; outputs are left to be inferred."""
    size: Any = model.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(batch, str):
        size.dim_param = batch
    else:
        size.dim_value = batch
    for output in model.graph.output:
        dim = output.type.tensor_type.shape.dim
        if len(dim):
            dim[0].CopyFrom(size)
