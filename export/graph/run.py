"""Run an FP32 graph in ONNX Runtime, and look at what passes through it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from typing import Any

import numpy as np
import onnx
import onnxruntime

from edgepose.backends.runtime import reason
from edgepose.errors import ExportError
from edgepose.export.graph.fp16 import FP16_MAX
from edgepose.limits import LONGEST_RUN


def run_onnx(model: onnx.ModelProto, crops: np.ndarray, outputs: Sequence[str] | None = None) -> list[np.ndarray]:
    """Run an FP32 graph in ONNX Runtime on the CPU, one input; all outputs unless some are named."""
    options, running = onnxruntime.SessionOptions(), onnxruntime.RunOptions()
    options.log_severity_level = running.log_severity_level = 4  # its errors are raised as well

    def run() -> list[Any]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(outputs, {session.get_inputs()[0].name: crops}, running)

    with ThreadPoolExecutor(1) as pool:  # another thread, so that this one can end it
        ended = pool.submit(run)
        try:
            results = ended.result(LONGEST_RUN)
        except TimeoutError as error:
            raise ExportError(
                f"the graph has run for {LONGEST_RUN:g} s without an end: a loop in it may have none; export it without"
            ) from error
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise ExportError(f"ONNX Runtime cannot run the graph ({reason(error)}): export it anew") from error
        finally:
            running.terminate = True
    return [np.asarray(result) for result in results]


def beyond_fp16(model: onnx.ModelProto, crops: np.ndarray) -> list[str]:
    """Names of an FP32 graph's nodes that read or make values beyond half of float16's range on these crops.

    Half, because the crops of real use are not these ones. Weights are always the same and may take the whole range;
    the limits of a Clip or Pad are cut to it.
    """
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    names = [name for node in model.graph.node for name in node.output if name]
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = zip(names, run_onnx(observed, crops, names), strict=True)
    large = {name for name, made in values if made.dtype == np.float32 and not _within_fp16(made)}
    weights = {item.name for item in model.graph.initializer if _is_beyond_fp16(item)}
    return [
        node.name
        for node in model.graph.node
        if large & {*node.input, *node.output} or (node.op_type not in ("Clip", "Pad") and weights & {*node.input})
    ]


def _is_beyond_fp16(weight: onnx.TensorProto) -> bool:
    if weight.data_type != onnx.TensorProto.FLOAT:
        return False
    values = onnx.numpy_helper.to_array(weight)
    return bool(np.abs(values[np.isfinite(values)]).max(initial=0.0) > FP16_MAX)


def _within_fp16(values: np.ndarray) -> bool:
    return bool(np.abs(values).max(initial=0.0) < FP16_MAX / 2)
