"""A plan's network built again so that it tells what its layers give: to find the first that is wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.model.passport import Passport
from edgepose.trt.debug import mark_layers
from edgepose.trt.log import messages_of
from edgepose.trt.options import BuildOptions
from edgepose.trt.runtime import TensorRtRuntime
from edgepose.trt.serialise import build_plan
from edgepose.trt.versions import load_builder


@dataclass(frozen=True)
class LayerValues:
    """What a layer gave: its name in the ONNX, its output's name there, the values, float32."""

    layer: str
    tensor: str
    values: np.ndarray


def layer_values(onnx: Path, passport: Passport, crops: np.ndarray, wanted: Collection[str]) -> list[LayerValues]:
    """Build a plan's network again with debug tensors, run it, and tell what its layers give, in the ONNX's order.

    A marked tensor is not fused away, so layers that the plan fuses run one by one here. Both sides of a Q/DQ pair are
    left unmarked: what is INT8 in the plan is INT8 here.

    Args:
        onnx: what the plan was built from.
        passport: the plan's.
        crops: (N, 3, H, W) float32, at most the plan's batch; of a network of whole images, pictures.
        wanted: names of tensors.

    Returns:
        Of a network with a fixed batch the values have as many rows, those behind the given ones repeat them.

    Raises:
        BuildError, BackendError: TensorRT cannot build or run it.
    """
    info = passport.plan
    trt = load_builder(info.runtime)
    options = BuildOptions(info.max_batch, version_compatible=info.version_compatible, dla=info.dla)
    names: dict[str, str] = {}  # tensor -> layer, in order

    def mark(network: Any) -> None:
        names.clear()  # of a network that could not be built
        names.update(mark_layers(trt, network, wanted))

    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder, messages_of(trt) as log:
        plan, _ = build_plan(trt, log, onnx, options, None, None, mark)
        path = Path(folder) / "values.plan"
        path.write_bytes(plan)
        again = replace(passport, sha256=sha256(plan).hexdigest())
        with closing(TensorRtRuntime(path, again, found.__setitem__)) as opened:
            rows = opened.fixed_batch or len(crops)  # all of a fixed batch: not every layer's first axis is the batch
            (name,) = passport.spec.inputs
            found |= opened.run({name: np.resize(crops, (rows, *crops.shape[1:]))})
    return [LayerValues(layer, tensor, found[tensor]) for tensor, layer in names.items() if tensor in found]
