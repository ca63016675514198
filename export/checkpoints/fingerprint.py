"""Which network a state dict is of, read from its keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

State = Mapping[str, torch.Tensor]

_RESNETS: dict[tuple[tuple[int, ...], bool], int] = {  # blocks per stage, with bottlenecks or not -> depth
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_COCO_POINTS = 17  # a head of twice as many makes a heat map and a tag of each
_PUBLISHED_STEM = 64  # channels of every published ResNet's first convolution


@dataclass(frozen=True)
class Family:
    """What the keys tell.

    Attributes:
        name: as the zoo would call it, though the zoo need not have it.
        channels: of the output.
        style: as the zoo would call it, where the keys tell it; else empty.
        input_hw: the input's height and width, where the shapes tell them.
    """

    name: str
    channels: int
    style: str = ""
    input_hw: tuple[int, int] | None = None

    def __str__(self) -> str:
        style = f" in {self.style} style" if self.style else ""
        return f"{self.name}{style} with {self.channels} output channels"


def recognize(state: State) -> Family | None:
    """The family of a state dict with the names that `read_checkpoint` gives; None if it is of none.

    The counts of blocks and stacks are read, the shapes in between are not: `load_into` compares those.
    """
    for key, head, name, style in _FINGERPRINTS:
        if key in state and head in state:
            return Family(name(state), int(state[head].shape[0]), style, _input_hw(state))
    return None


def _input_hw(state: State) -> tuple[int, int] | None:
    """Of SimCC's networks, whose last layers have two rows for each px."""
    for along_y, along_x in (("cls_y.weight", "cls_x.weight"), ("mlp_head_y.weight", "mlp_head_x.weight")):
        if along_y in state and along_x in state:
            return int(state[along_y].shape[0]) // 2, int(state[along_x].shape[0]) // 2
    return None


def _cspnext(name: str) -> Callable[[State], str]:
    sizes = {12: "t", 16: "s", 24: "m", 32: "l", 40: "x"}  # channels of the stem
    return lambda state: f"{name}_{sizes.get(state['stem.0.conv.weight'].shape[0], '?')}"


def _hrnet(state: State) -> str:
    width = state["transition1.0.0.weight"].shape[0] if "transition1.0.0.weight" in state else "?"
    tags = "final_layer.weight" in state and state["final_layer.weight"].shape[0] == 2 * _COCO_POINTS
    return f"hrnet_w{width}" + ("_ae" if tags else "")


def _higher_hrnet(state: State) -> str:
    return "higher_" + _hrnet(state)


def _lightweight_openpose(state: State) -> str:
    stages = _count(state, "refinement_stages")
    return "lightweight_openpose" + (f"_{stages}" if stages != 1 else "")


def _simple_baseline(state: State) -> str:
    if "deconv_layers.0.bias" in state:
        return "simplebaseline_keras"
    if "conv1.weight" in state and state["conv1.weight"].shape[0] < _PUBLISHED_STEM:
        return "simplebaseline_tiny"
    blocks = tuple(_count(state, f"layer{stage}") for stage in (1, 2, 3, 4))
    return f"simplebaseline_resnet{_RESNETS.get((blocks, 'layer1.0.conv3.weight' in state), '?')}"


def _vitpose(state: State) -> str:
    sizes = {(384, 12): "s", (768, 12): "b", (1024, 24): "l", (1280, 32): "h"}  # width, blocks
    size = sizes.get((state["patch_embed.proj.weight"].shape[0], _count(state, "blocks")), "?")
    return f"vitpose_{size}{'' if 'deconv_layers.0.weight' in state else '_simple'}"


def _hourglass(state: State) -> str:
    stacks = _count(state, "hourglass_modules")
    return "hourglass52" if stacks == 1 else f"hourglass{52 * stacks}"


def _stacked_hourglass(prefix: str) -> Callable[[State], str]:
    return lambda state: f"stacked_hourglass_{_count(state, prefix)}"


def _count(state: State, prefix: str) -> int:
    """How many numbered parts there are behind a prefix."""
    parts = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", key) for key in state)
    return len({part[1] for part in parts if part})


# A key that no other family has, the head's weight, the name, and the style where these keys tell it.
_FINGERPRINTS: tuple[tuple[str, str, Callable[[State], str], str], ...] = (
    ("stage4.2.fuse_layers.0.3.0.weight", "final_layer.weight", _hrnet, ""),
    ("deconv_layers.0.0.0.weight", "final_layers.1.weight", _higher_hrnet, ""),
    ("cpm.align.0.weight", "initial_stage.heatmaps.1.0.weight", _lightweight_openpose, ""),
    ("cls_z.weight", "final_layer2.conv.weight", _cspnext("rtmw3d"), ""),
    ("neck.reduce_layers.0.conv.weight", "final_layer2.conv.weight", _cspnext("rtmw"), ""),
    ("gau.uv.weight", "final_layer.weight", _cspnext("rtmpose"), ""),
    ("mlp_head_x.weight", "deconv_head.final_layer.weight", lambda state: "simcc_resnet50", ""),
    ("patch_embed.proj.weight", "final_layer.weight", _vitpose, ""),
    ("deconv_layers.0.weight", "final_layer.weight", _simple_baseline, ""),
    ("cpm_stages.0.model.0.conv.weight", "out_convs.0.1.conv.weight", lambda state: "cpm", ""),
    ("hourglass_modules.0.up1.0.conv1.weight", "multi_final_layers.0.weight", _hourglass, ""),
    ("hg.0.hg.0.3.0.conv1.weight", "score.0.weight", _stacked_hourglass("hg"), "bearpaw"),
    ("hgs.0.0.up1.conv1.conv.weight", "outs.0.conv.weight", _stacked_hourglass("hgs"), "princeton"),
    ("bands.0.0.conv.weight", "final_layer.weight", lambda state: "efficient_object_localization", ""),
)
