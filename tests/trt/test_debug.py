"""Layers that are marked to tell their values, through NVIDIA's own builder. Nothing here runs on a GPU."""

from __future__ import annotations

import pytest

from edgepose.trt.debug import mark_layers
from edgepose.trt.log import messages_of
from edgepose.trt.options import BuildOptions
from edgepose.trt.serialise import build_plan
from tests.makers import dots_spec, write_toy_model

pytest.importorskip("onnx")
trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (x86-64 only)")


@pytest.mark.parametrize(
    ("precision", "marked"),
    [("fp32", ["pooled", "heatmaps"]), ("fp16", ["pooled", "mixed", "heatmaps"]), ("int8", ["pooled", "heatmaps"])],
)
def test_layers_are_marked_in_order_but_for_pairs_and_the_network_still_builds(tmp_path, precision, marked):
    onnx, names = write_toy_model(tmp_path / "m.onnx", dots_spec(), precision=precision), dict[str, str]()
    wanted = {"pooled", "q", "dq", "mixed", "heatmaps"}  # not `half`: the cast of the input

    with messages_of(trt) as log:
        options = BuildOptions(targets=("sm_86",))
        plan, _ = build_plan(
            trt, log, onnx, options, None, None, lambda network: names.update(mark_layers(trt, network, wanted))
        )

    assert len(plan) > 1000
    assert list(names) == marked
