"""OpenVINO itself, and ONNX files as its models: the door to the package.

QuantizeLinear and DequantizeLinear are translated here and not by OpenVINO's reader, in one of two forms:

* exact: the operators' own definition in FP32: divide, round half to even, clamp, multiply; weights as the numbers
  that they stand for. Nothing is left for OpenVINO's low-precision passes to find, so no INT8 kernel runs.
* for kernels: FakeQuantize and INT8 weights, from which the passes make INT8 kernels, with limits in FP32. OpenVINO's
  reader computes them in the type of the step, FP16 in edgepose's files: the upper limit of 127 steps is off by up to
  1 in 4096 then, releases before 2025.4 refuse such a step, and behind a Concat 2026.4 rounds to whole numbers
  instead of to steps.

On an x86 CPU without VNNI the kernels add pairs of products of an unsigned and a signed byte in 16 bits, which
saturate. Signed tensors are moved by 128 to be unsigned: up to 2 * 255 * 127. Tensors behind a ReLU are not, if they
are quantised from 0 on: 2 * 127 * 127 = 32258 is below 2**15. There only those go to kernels; the others are exact.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import BackendError, MissingPackageError
from edgepose.machine.packages import is_absent, load_failure

FP16_MAX = 65504.0
EXACT = "edgepose_exact"  # marks a conversion to FP16 of values that a GPU holds as INT8
MOVES = {  # hand on FP16 numbers as they are: nothing is left to round
    *("Reshape", "Broadcast", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "VariadicSplit", "Slice"),
    *("StridedSlice", "Gather", "Pad", "Tile", "DepthToSpace", "MaxPool", "Relu"),
}
SUMS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
PROBE = (1, 64, 8, 8)  # shape of the tensor that shows whether INT8 kernels saturate


def _import_openvino() -> Any:
    """`import openvino` without its telemetry, which reports every import to its vendor over the network."""
    hide = "openvino_telemetry" not in sys.modules
    if hide:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then takes its own stub
    try:
        return import_module("openvino")
    except (ImportError, OSError) as error:
        if is_absent(error, "openvino"):
            raise MissingPackageError("OpenVINO", "cpu") from error
        raise BackendError(
            f"{load_failure(error, 'openvino')}: pip install --force-reinstall openvino, or run an FP32 file with "
            f"--backend onnxruntime"
        ) from error
    finally:
        if hide:
            del sys.modules["openvino_telemetry"]


openvino = _import_openvino()


def _operators() -> Any:
    """OpenVINO's operators; releases before 2025 have them in `openvino.runtime`."""
    try:
        return import_module("openvino.opset10")
    except ModuleNotFoundError:
        return import_module("openvino.runtime.opset10")


def settings(threads: int | None, *, bf16: bool = False) -> dict[str, Any]:
    """How a model is compiled for the CPU."""
    found: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # What is not quantised is computed in FP32: the default is BF16 where the CPU has it (8 bits of mantissa).
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
    }
    if threads is not None:
        found["INFERENCE_NUM_THREADS"] = threads
    return found


def read_onnx(path: Path, *, exact: bool, store_fp16: bool = False) -> Any:
    """The model of an ONNX file; RuntimeError if it is none.

    `Core.read_model` would try the readers of all other formats on a damaged file, and some write to stderr.

    Args:
        exact: Q/DQ pairs as FP32 arithmetic; False: as what INT8 kernels are made from, where these are right.
        store_fp16: round the result of every operator that the file computes in FP16, as a GPU stores it.
    """
    frontend = import_module("openvino.frontend").FrontEndManager().load_by_framework("onnx")
    extension = import_module("openvino.frontend.onnx").ConversionExtension
    kernels = _fake_quantize if not exact and int8_kernels_are_exact() else _fake_quantize_unsigned
    frontend.add_extension(extension("QuantizeLinear", _quantize if exact else kernels))
    frontend.add_extension(extension("DequantizeLinear", _dequantize if exact else _fake_dequantize))
    try:
        model = frontend.convert(frontend.load(str(path)))
    except Exception as error:  # the reader's exceptions have no common base but this one
        raise RuntimeError(str(error)) from error
    if not model.inputs or not model.outputs:
        raise RuntimeError("it has no input or no output")
    stored = _compute_in_fp32(model)
    if store_fp16:
        for output in stored:
            readers = output.get_target_inputs()
            _replace(output, _rounded_to_fp16(output), readers)
        model.validate_nodes_and_infer_types()
    return model


def _compute_in_fp32(model: Any) -> list[Any]:
    """Make all FP16 tensors of a model FP32; the outputs that were FP16, whose values a GPU would round.

    OpenVINO makes them FP32 when it compiles, but folds constants before: 127 steps have more bits than FP16.
    """
    stored = []
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        half = [output for output in operator.outputs() if output.get_element_type() == openvino.Type.f16]
        if not half:
            continue
        output = operator.output(0)
        if kind == "Parameter":
            operator.set_element_type(openvino.Type.f32)
            stored.append(output)
        elif kind == "Constant":
            _replace(output, _float(np.array(operator.get_data())).output(0), output.get_target_inputs())
        elif kind == "Convert":
            readers, value = output.get_target_inputs(), operator.input_value(0)
            if EXACT not in operator.get_rt_info():
                value = _operators().convert(value, "f32").output(0)
                stored.append(value)
            _replace(output, value, readers)
        elif kind not in MOVES and not (kind in SUMS and _is_biased(output)):
            stored += half
    model.validate_nodes_and_infer_types()
    return stored


def _replace(output: Any, other: Any, readers: Any) -> None:
    """Let those that read `output` read `other`, by its names as well, but for an input, which keeps its own alone."""
    if "Parameter" not in (other.get_node().get_type_name(), output.get_node().get_type_name()):
        other.add_names(output.get_names())
    for reader in readers:
        reader.replace_source_output(other)


def _is_biased(output: Any) -> bool:
    """Whether a sum is read by the addition of its bias alone: the two are one operator of the file."""
    readers = [port.get_node() for port in output.get_target_inputs()]
    readers = [reader for reader in readers if reader.get_type_name() != "ShapeOf"]  # of the bias's own reshaping
    return [reader.get_type_name() for reader in readers] == ["Add"] and any(
        _is_constant(readers[0].input_value(index)) for index in (0, 1)
    )


def _is_constant(output: Any) -> bool:
    """Whether a value is a constant of the file, which the reader may have brought into another shape."""
    node = output.get_node()
    kind = node.get_type_name()
    return kind == "Constant" or (kind in MOVES and _is_constant(node.input_value(0)))


def _rounded_to_fp16(output: Any) -> Any:
    """Floats rounded to the nearest FP16 number, ties to even: infinite from 65520 on, multiples of 2**-24 at least.

    By adding and taking away a number so large that the sum's last bit is FP16's for x. OpenVINO has no type that would
    be rounded so, and drops a conversion to FP16 and back. All products are with powers of two, thus exact: OpenVINO
    makes one fused operation of a product and a sum where it likes, and here that changes nothing.

    The number is 2**13 * near, `near` being x rounded by 2**13 * x. That first rounding is one step off only where x is
    next below a power of two: there the sum has an exponent more. The second is right: 2**13 * near is even in its
    last bit, so ties go to even, and it is low enough for the exponent, or the power of two or more, and x goes there.
    """
    ops = _operators()
    size = ops.clamp(ops.abs(output), 0.0, 2.0**17)  # beyond FP16, whatever it is
    moved = ops.multiply(size, _float(2.0**13))
    near = ops.subtract(ops.add(size, moved), moved)
    large = ops.maximum(ops.multiply(near, _float(2.0**13)), _float(0.75))  # 0.75: its last bit is 2**-24
    rounded = ops.subtract(ops.add(size, large), large)
    finite = ops.select(ops.greater(rounded, _float(FP16_MAX)), _float(np.inf), rounded)
    return ops.multiply(finite, ops.sign(output)).output(0)


def _quantize(node: Any) -> list[Any]:
    """x -> clamp(round(x / step) + zero) as floats: ONNX's definition of QuantizeLinear."""
    ops, (step, zero, low, high) = _operators(), _parameters(node)
    levels = ops.round(ops.divide(_as_float(node.get_input(0)), _float(step)), "half_to_even")
    if zero.any():
        levels = ops.add(levels, _float(zero))
    return ops.clamp(levels, low, high).outputs()


def _dequantize(node: Any) -> list[Any]:
    """q -> (q - zero) * step, in the step's type: ONNX's definition of DequantizeLinear."""
    ops, (step, zero, _, _) = _operators(), _parameters(node)
    weights = _constant(node.get_input(0))
    if weights is not None:
        values = _float((weights.astype(np.float32) - zero) * step)
    else:
        values = _as_float(node.get_input(0))
        values = ops.multiply(ops.subtract(values, _float(zero)) if zero.any() else values, _float(step))
    return _in_type(values, node.get_input(1)).outputs()


def _fake_quantize(node: Any) -> list[Any]:
    """As `_quantize`, as one FakeQuantize."""
    ops, (step, zero, low, high) = _operators(), _parameters(node)
    limits = [_float((bound - zero) * step) for bound in (low, high)]
    levels = [_float(np.full_like(step, bound)) for bound in (low, high)]
    return ops.fake_quantize(_as_float(node.get_input(0)), *limits, *levels, round(high - low) + 1).outputs()


def _fake_quantize_unsigned(node: Any) -> list[Any]:
    """Of values that cannot be negative as one FakeQuantize of unsigned bytes; of others `_quantize`."""
    step, zero, _, high = _parameters(node)
    if zero.any() or step.size > 1 or not _is_positive(node.get_input(0)):
        return _quantize(node)
    ops, top = _operators(), np.iinfo(np.uint8).max
    limits = [_float(0), _float(top * step), _float(0), _float(top)]
    clamped = ops.clamp(_as_float(node.get_input(0)), 0.0, float(high * step))
    return ops.fake_quantize(clamped, *limits, top + 1).outputs()


def _is_positive(output: Any) -> bool:
    """Whether a tensor is known to have no negative value."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Clamp":
        return node.get_attributes()["min"] >= 0
    return kind in ("Relu", "Sigmoid") or (kind == "Convert" and _is_positive(node.input_value(0)))


def _fake_dequantize(node: Any) -> list[Any]:
    """As `_dequantize`: part of the FakeQuantize in front; weights stay INT8 behind a conversion."""
    ops, (step, zero, _, _) = _operators(), _parameters(node)
    weights, source = _constant(node.get_input(0)), node.get_input(0).get_node()
    if weights is None and source.get_type_name() == "FakeQuantize":
        tensor, *limits = (source.input_value(index) for index in range(5))
        scaled = [_float((_constant_of(limit) - zero) * step) for limit in limits[2:]]
        values = ops.fake_quantize(tensor, *limits[:2], *scaled, source.get_attributes()["levels"])
    else:
        values = ops.convert(ops.constant(weights) if weights is not None else node.get_input(0), "f32")
        values = ops.multiply(ops.subtract(values, _float(zero)) if zero.any() else values, _float(step))
    return _in_type(values, node.get_input(1)).outputs()


def _parameters(node: Any) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Step and zero point (float32, to be broadcast over the tensor), and the lowest and highest level."""
    step = _constant_of(node.get_input(1))
    zero = _constant_of(node.get_input(2)) if node.get_input_size() > 2 else np.zeros(step.shape, np.uint8)
    bounds = np.iinfo(zero.dtype)
    shape = [1] * len(node.get_input(0).get_partial_shape()) if step.size > 1 else []
    if step.size > 1:
        shape[node.get_attribute("axis", 1)] = -1
    return (
        step.astype(np.float32).reshape(shape),
        zero.astype(np.float32).reshape(shape),
        float(bounds.min),
        float(bounds.max),
    )


def _constant(output: Any) -> np.ndarray | None:
    """The values of a constant; None if it is none."""
    node = output.get_node()
    return np.array(node.get_data()) if node.get_type_name() == "Constant" else None


def _constant_of(output: Any) -> np.ndarray:
    values = _constant(output)
    if values is None:
        raise RuntimeError("the step or zero point of a quantisation is no constant")
    return values


def _float(values: np.ndarray | float) -> Any:
    return _operators().constant(np.asarray(values, np.float32))


def _as_float(output: Any) -> Any:
    return output if output.get_element_type() == openvino.Type.f32 else _operators().convert(output, "f32")


def _in_type(values: Any, other: Any) -> Any:
    """Dequantised values (float32) in the type of another tensor, but never rounded to it."""
    kind = other.get_element_type()
    if kind == openvino.Type.f32:
        return values
    converted = _operators().convert(values, kind)
    converted.get_rt_info()[EXACT] = True
    return converted


@lru_cache(maxsize=1)
def int8_kernels_are_exact() -> bool:
    """Whether this processor's INT8 kernels add up products without saturating, by running one.

    64 products of 127 and 127: without VNNI, AVX-VNNI or AMX the instructions add two of them in 16 bits.
    """
    ops = _operators()
    ends = [_float(bound) for bound in (-128, 127)]
    tensor = ops.parameter(list(PROBE), np.float32)
    weights = ops.constant(np.full((32, PROBE[1], 1, 1), 127, np.int8))
    levels = ops.multiply(ops.convert(weights, "f32"), _float(np.ones((32, 1, 1, 1))))
    sums = ops.convolution(ops.fake_quantize(tensor, *ends, *ends, 256), levels, [1, 1], [0, 0], [0, 0], [1, 1])
    model = openvino.Model([sums], [tensor])
    request = openvino.Core().compile_model(model, "CPU", settings(1)).create_infer_request()
    found = np.asarray(request.infer([np.full(PROBE, 127, np.float32)])[0])
    return bool((found == 127 * 127 * PROBE[1]).all())
