"""ONNX's operations as calls of PyTorch: those that the exported networks have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.nn import functional

TYPES = {1: torch.float32, 10: torch.float16, 3: torch.int8, 7: torch.int64}  # onnx.TensorProto's numbers
Given = Sequence[Any]  # tensors, None for an input left out
Numbers = Sequence[Any]  # of each input the numbers, where it is a constant of whole numbers


def convolve(kind: str, attributes: dict[str, Any], given: Given) -> torch.Tensor:
    """Conv and ConvTranspose; in float32 where one of both is."""
    given = _alike([each for each in given if each is not None])
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right) and kind == "Conv":
        given, (top, left) = [functional.pad(given[0], (left, right, top, bottom)), *given[1:]], (0, 0)
    else:
        assert (top, left) == (bottom, right)
    call = functional.conv2d if kind == "Conv" else functional.conv_transpose2d
    settings = {"stride": attributes.get("strides", 1), "groups": attributes.get("group", 1)}
    if "dilations" in attributes:
        settings["dilation"] = attributes["dilations"]
    return call(*given, padding=(top, left), **settings)


def _alike(given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [each.float() for each in given] if any(each.dtype == torch.float32 for each in given) else list(given)


def _quantize(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    assert not any(numbers[2])
    step = _along(given[1].float(), given[0], attributes)
    return torch.clamp(torch.round(given[0].float() / step), -128, 127).to(torch.int8)


def _dequantize(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    return given[0].float() * _along(given[1].float(), given[0], attributes)


def _along(step: torch.Tensor, values: torch.Tensor, attributes: dict[str, Any]) -> torch.Tensor:
    if step.ndim == 0:
        return step
    axis = attributes.get("axis", 1) % values.ndim
    return step.reshape([-1 if each == axis else 1 for each in range(values.ndim)])


def _pool(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        assert (top, left) == (bottom, right)
        assert not attributes.get("ceil_mode")
        more = {} if call is functional.max_pool2d else {"count_include_pad": bool(attributes.get("count_include_pad"))}
        return call(given[0], attributes["kernel_shape"], attributes["strides"], (top, left), **more)

    return run


def _depth_to_space(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    assert attributes["mode"] == b"CRD"
    return functional.pixel_shuffle(given[0], attributes["blocksize"])


def _slice(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    found = given[0]
    for start, end, axis in zip(*numbers[1:4], strict=True):
        found = found[(slice(None),) * (axis % found.ndim) + (slice(start, end),)]
    return found


def _reshape(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    return given[0].reshape([size or given[0].shape[axis] for axis, size in enumerate(numbers[1])])


def _split(attributes: dict[str, Any], given: Given, numbers: Numbers) -> Sequence[torch.Tensor]:
    axis = attributes.get("axis", 0)
    if len(numbers) > 1 and numbers[1] is not None:
        return torch.split(given[0], numbers[1], axis)
    return torch.chunk(given[0], attributes["num_outputs"], axis)


def _axes(attributes: dict[str, Any], numbers: Numbers) -> list[int]:
    return list(attributes["axes"] if "axes" in attributes else numbers[1])


def _squeeze(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    return given[0].squeeze(_axes(attributes, numbers))


def _reduce_l2(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    whole = given[0].float()  # squares of float16 do not fit it
    return whole.norm(dim=_axes(attributes, numbers), keepdim=bool(attributes.get("keepdims", 1)))


def _clip(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    low, high = (*given[1:], None, None)[:2]
    return torch.clamp(given[0], attributes.get("min", low), attributes.get("max", high))


def _hard_sigmoid(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    return torch.clamp(given[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0, 1)


def _layer_norm(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    assert attributes.get("axis", -1) in (-1, given[0].ndim - 1)
    first, scale, bias = _alike(given[:3])
    return functional.layer_norm(first, first.shape[-1:], scale, bias, attributes.get("epsilon", 1e-5))


def _batch_norm(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    first, scale, bias, mean, variance = _alike(given)
    return functional.batch_norm(first, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


@cache  # a recording may not take memory from the CPU
def _places(size: int, wanted: int, corners: bool, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    step = (size - 1) / max(1, wanted - 1) if corners else size / wanted
    position = torch.arange(wanted, dtype=torch.float64) * step
    first = position.floor().long().clamp(max=size - 1)
    share = (position - first).float()
    return first.to(device), (first + 1).clamp(max=size - 1).to(device), share.to(device)


def _resize(attributes: dict[str, Any], given: Given, numbers: Numbers) -> torch.Tensor:
    linear, found = attributes["mode"] == b"linear", given[0]
    corners = attributes["coordinate_transformation_mode"] == b"align_corners"
    assert corners or attributes["coordinate_transformation_mode"] == b"asymmetric", attributes
    assert linear or attributes["nearest_mode"] == b"floor", attributes
    sizes = numbers[3] if len(numbers) > 3 else None
    for axis in (2, 3):
        size = found.shape[axis]
        wanted = sizes[axis] if sizes else round(size * numbers[2][axis])
        first, second, share = _places(size, wanted, corners, str(found.device))
        low = found.index_select(axis, first)
        if linear:
            share = share.to(found.dtype).reshape([-1 if each == axis else 1 for each in range(4)])
            low = low + (found.index_select(axis, second) - low) * share
        found = low
    return found


def _two(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda attributes, given, numbers: call(*_alike(given))


def _one(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda attributes, given, numbers: call(given[0])


OPERATIONS: dict[str, Callable[[dict[str, Any], Given, Numbers], Any]] = {
    "Conv": lambda attributes, given, numbers: convolve("Conv", attributes, given),
    "ConvTranspose": lambda attributes, given, numbers: convolve("ConvTranspose", attributes, given),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Relu": _one(functional.relu),
    "Elu": lambda attributes, given, numbers: functional.elu(given[0], attributes.get("alpha", 1.0)),
    "Sigmoid": _one(torch.sigmoid),
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Erf": _one(torch.erf),
    "Softmax": lambda attributes, given, numbers: torch.softmax(given[0], attributes.get("axis", -1)),
    "Add": _two(torch.add),
    "Sub": _two(torch.sub),
    "Mul": _two(torch.mul),
    "Div": _two(torch.div),
    "MatMul": _two(torch.matmul),
    "Concat": lambda attributes, given, numbers: torch.cat(_alike(given), attributes["axis"]),
    "Cast": lambda attributes, given, numbers: given[0].to(TYPES[attributes["to"]]),
    "MaxPool": _pool(functional.max_pool2d),
    "AveragePool": _pool(functional.avg_pool2d),
    "GlobalAveragePool": lambda attributes, given, numbers: given[0].mean((2, 3), keepdim=True),
    "DepthToSpace": _depth_to_space,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda attributes, given, numbers: given[0].permute(attributes["perm"]),
    "Split": _split,
    "Squeeze": _squeeze,
    "ReduceL2": _reduce_l2,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Resize": _resize,
}
