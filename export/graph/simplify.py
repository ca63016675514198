"""onnxsim: constants folded, BatchNorm merged into convolutions, shapes resolved."""

from __future__ import annotations

import onnx
import onnxsim

from edgepose.errors import ExportError
from edgepose.export.graph.interface import normalize

# A Gemm between two Reshapes in the place of a MatMul over tokens and its bias: more nodes, and TensorRT fuses less.
SKIPPED = ["fuse_matmul_add_bias_into_gemm_batched"]


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A smaller graph that computes the same; `verify` is what checks that it does.

    Raises:
        ExportError: onnxsim cannot process the graph.
    """
    try:
        simplified, _ = onnxsim.simplify(model, skipped_optimizers=SKIPPED)
    except Exception as error:  # onnxsim lets C++ exceptions of any type through
        raise ExportError(f"onnxsim cannot simplify this graph: {error}") from error
    return normalize(simplified)
