"""Each network's checkpoint in each repository's layout: told by its keys, loaded key for key, refused with one less.

The values are one zero seen through the tensor's shape, so that a file of 95 million parameters is a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from edgepose.errors import CheckpointError
from edgepose.export.checkpoints.fingerprint import recognize
from edgepose.export.checkpoints.state_dict import StateDict, fits, load_into, read_checkpoint
from edgepose.export.zoo.find import models

HEADS = ("final_layer.", "deconv_layers.", "multi_final_layers.")


def mmpose(state: StateDict, head: str) -> StateDict:
    return {f"{head if key.startswith(HEADS) else 'backbone.'}{key}": value for key, value in state.items()}


def prefixed(state: StateDict, prefix: str) -> StateDict:
    return {f"{prefix}{key}": value for key, value in state.items()}


LAYOUTS: dict[str, tuple[Callable[[StateDict], object], str]] = {
    "plain": (lambda state: state, "original"),
    "training": (
        lambda state: {"epoch": 3, "model": "net", "state_dict": prefixed(state, "module."), "optimizer": {}},
        "original",
    ),
    "princeton": (
        lambda state: {"state_dict": prefixed(state, "model.module."), "optimizer": {}, "epoch": 1},
        "original",
    ),
    "mmpose v0": (
        lambda state: {"meta": {"mmcv_version": "1"}, "state_dict": mmpose(state, "keypoint_head.")},
        "mmpose_v0",
    ),
    "mmpose v1": (
        lambda state: {"meta": {"mmengine_version": "0"}, "state_dict": mmpose(state, "head.")},
        "mmpose_v1",
    ),
}
PUBLISHED_IN = {
    "simplebaseline": ("plain", "training", "mmpose v0", "mmpose v1"),
    "hrnet": ("plain", "training", "mmpose v0", "mmpose v1"),
    "cpm": ("mmpose v0", "mmpose v1"),
    "hourglass52": ("mmpose v0", "mmpose v1"),
    "stacked": ("plain", "training", "princeton"),
}
NETWORKS = {
    f"{model.name} {model.spec.channels} {style}": (model, style)
    for model in models()
    for style in model.styles
    if style != "caffe" and not model.embedded and model.name != "simplebaseline_keras"
}
CASES = [
    (name, layout)
    for name in NETWORKS
    for family, layouts in PUBLISHED_IN.items()
    if name.startswith(family)
    for layout in layouts
]


@cache
def build(name: str) -> torch.nn.Module:
    model, style = NETWORKS[name]
    with torch.device("meta"):
        return model.build(style)


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.filterwarnings("ignore:.*meta parameter")
def test_loads_key_for_key_and_not_with_one_missing(name, layout, tmp_path: Path):
    model, _ = NETWORKS[name]
    network = build(name)
    zeros = {dtype: torch.zeros((), dtype=dtype) for dtype in (torch.float32, torch.int64)}
    state = {key: zeros[tensor.dtype].expand(tensor.shape) for key, tensor in network.state_dict().items()}
    wrap, origin = LAYOUTS[layout]
    torch.save(wrap(dict(reversed(state.items()))), tmp_path / "whole.pth")  # the order is of no importance
    gone = next(key for key in state if key.endswith("conv2.weight") or key == "stem.6.conv.weight" or ".conv2." in key)

    whole, found = read_checkpoint(tmp_path / "whole.pth")
    less = {key: value for key, value in whole.items() if key != gone}

    assert found == origin
    assert (recognize(whole).name, recognize(whole).channels) == (model.name, model.spec.channels)
    assert fits(network, whole)
    with pytest.raises(CheckpointError, match=rf"1 keys missing \(first: {gone}\)"):
        load_into(network, less, path=tmp_path / "less.pth", label=model.label)
