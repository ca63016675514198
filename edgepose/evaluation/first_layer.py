"""Which layer of a plan is the first that computes something else than the CPU?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepose.backends.openvino_values import exact_values
from edgepose.evaluation.agreement import largest_of, relative_error, rounded
from edgepose.model.passport import Passport
from edgepose.trt.values import layer_values


def first_layer(onnx: Path, passport: Passport, crops: np.ndarray, *, built: Path | None = None) -> str:
    """Name the first layer whose values differ by more than its precision explains, in a sentence.

    Values are compared by their rms, as heat maps are: the limit of the precision, or three times what the CPU's own
    move by when the crops are rounded as FP16 does.

    Args:
        onnx: what the plan was built from.
        passport: the plan's.
        crops: (N, 3, H, W) float32 on which the plan's heat maps are wrong.
        built: the plan was built from this one, which should be the same; None if it was from `onnx`.

    Raises:
        EdgeposeError: OpenVINO or TensorRT cannot compute it.
    """
    wanted, nudged = exact_values(onnx, [crops, rounded(crops)])
    compared = 0
    for found in layer_values(built or onnx, passport, crops, wanted):
        given, values, moved = (
            each[: len(crops)] for each in (found.values, wanted[found.tensor], nudged[found.tensor])
        )
        if given.shape != values.shape or not values.any():  # all 0 behind a ReLU, say: nothing to be relative to
            continue
        compared += 1
        error = relative_error(given, values)
        limit = largest_of(passport.precision, relative_error(moved, values))
        if not error <= limit:  # NaN too
            return (
                f"built again to tell each layer's values, the first that differs is {found.layer}: its output "
                f"{found.tensor} by {error:.1e} of its rms, {limit:.2g} at most wanted"
            )
    return (
        f"built again to tell each layer's values, none of {compared} layers differs: so it is what TensorRT fuses, or "
        f"this plan alone"
    )
