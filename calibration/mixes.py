"""A mix of precisions: some layers in INT8, the rest in FP16, made from one prepared graph and its ranges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgepose.calibration.biases import correct_biases
from edgepose.calibration.qdq import insert_qdq, pairs_beyond_fp16, quantised_inputs
from edgepose.export.graph.fp16 import to_fp16


@dataclass(frozen=True)
class Techniques:
    """What is done to the graph besides rounding it; each can be left out.

    Attributes:
        equalise: channels of a tensor are brought to like sizes (`equalise`).
        correct_biases: the mean shift of rounded weights is taken from the float bias (`biases`).
    """

    equalise: bool = True
    correct_biases: bool = True


ALL = Techniques()


@dataclass(frozen=True)
class Ground:
    """What every mix of one network is made from.

    Attributes:
        model: FP32, prepared: folded, equalised, without deconvolutions.
        layers: names of the layers that are INT8 where nothing else is asked for.
        ranges: tensor -> the magnitude that 127 stands for; of all `tensors_of_mixes`.
        means: tensor -> (C,) the usual mean of each channel.
        keep_fp32: names of nodes that FP16 cannot hold.
    """

    model: onnx.ModelProto
    layers: tuple[str, ...]
    ranges: Mapping[str, float]
    means: Mapping[str, np.ndarray]
    keep_fp32: tuple[str, ...] = ()


def tensors_of_mixes(prepared: onnx.ModelProto, layers: Collection[str]) -> list[str]:
    """The tensors that some choice of these layers puts a pair on."""
    found = dict.fromkeys(quantised_inputs(prepared, layers))
    for layer in layers:  # a skip may need a pair beside one layer, and none beside two
        found |= dict.fromkeys(quantised_inputs(prepared, [layer]))
    return list(found)


def quantise(ground: Ground, layers: Collection[str], without: Collection[str] = ()) -> onnx.ModelProto:
    """`layers` in INT8, all else in FP32; no pair on the tensors of `without`."""
    return insert_qdq(correct_biases(ground.model, layers, ground.means), ground.ranges, layers, without)


def mixed(ground: Ground, layers: Collection[str]) -> onnx.ModelProto:
    """`layers` in INT8, all else in FP16: the graph that is shipped."""
    quantised = quantise(ground, layers)
    return to_fp16(quantised, keep_fp32=[*ground.keep_fp32, *pairs_beyond_fp16(quantised)])
