"""The published networks a second time: plain functions of a state dict, that know no number but those in its shapes.

Written from the publications' definitions (leoxiaobin `pose_hrnet.py`, bearpaw `hourglass.py`, princeton
`posenet.py`), not from export/networks/: what both compute at a size without golden outputs is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

State = Mapping[str, torch.Tensor]


def conv(x: torch.Tensor, state: State, name: str, stride: int = 1) -> torch.Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def norm(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    mean, var = (state[f"{name}.running_{kind}"].view(1, -1, 1, 1) for kind in ("mean", "var"))
    gain, bias = (state[f"{name}.{kind}"].view(1, -1, 1, 1) for kind in ("weight", "bias"))
    return (x - mean) / torch.sqrt(var + 1e-5) * gain + bias


def count(state: State, prefix: str) -> int:
    """How many numbered parts follow the prefix."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def enlarge(x: torch.Tensor, factor: int) -> torch.Tensor:
    return x.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)


def hrnet(state: State, x: torch.Tensor) -> torch.Tensor:
    for name in ("1", "2"):
        x = norm(conv(x, state, f"conv{name}", stride=2), state, f"bn{name}").relu()
    for block in range(count(state, "layer1.")):
        x = _residual(x, state, f"layer1.{block}")
    branches = [x]
    for stage in (2, 3, 4):
        branches = _transition(branches, state, f"transition{stage - 1}")
        for module in range(count(state, f"stage{stage}.")):
            branches = _hrnet_module(branches, state, f"stage{stage}.{module}")
    return conv(branches[0], state, "final_layer")


def _residual(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    """Basic block or bottleneck: as many convolutions as it has names."""
    y = x
    last = 3 if f"{name}.conv3.weight" in state else 2
    for i in range(1, last + 1):
        y = norm(conv(y, state, f"{name}.conv{i}"), state, f"{name}.bn{i}")
        y = y.relu() if i < last else y
    if f"{name}.downsample.0.weight" in state:
        x = norm(conv(x, state, f"{name}.downsample.0"), state, f"{name}.downsample.1")
    return (x + y).relu()


def _transition(branches: list[torch.Tensor], state: State, name: str) -> list[torch.Tensor]:
    result = []
    for i in range(len(branches) + 1):
        if f"{name}.{i}.0.weight" in state:  # same size, other width
            result.append(norm(conv(branches[i], state, f"{name}.{i}.0"), state, f"{name}.{i}.1").relu())
        elif f"{name}.{i}.0.0.weight" in state:  # half the size
            smaller = conv(branches[-1], state, f"{name}.{i}.0.0", stride=2)
            result.append(norm(smaller, state, f"{name}.{i}.0.1").relu())
        elif i < len(branches):
            result.append(branches[i])
    return result


def _hrnet_module(branches: list[torch.Tensor], state: State, name: str) -> list[torch.Tensor]:
    for b in range(len(branches)):
        for block in range(count(state, f"{name}.branches.{b}.")):
            branches = [
                *branches[:b],
                _residual(branches[b], state, f"{name}.branches.{b}.{block}"),
                *branches[b + 1 :],
            ]
    fused = []
    for i in range(len(branches)):
        terms = []
        for j, x in enumerate(branches):
            path = f"{name}.fuse_layers.{i}.{j}"
            if i == j:
                terms.append(x)
            elif j > i and f"{path}.0.weight" in state:
                terms.append(enlarge(norm(conv(x, state, f"{path}.0"), state, f"{path}.1"), 2 ** (j - i)))
            elif j < i and f"{path}.0.0.weight" in state:
                for step in range(i - j):
                    x = norm(conv(x, state, f"{path}.{step}.0", stride=2), state, f"{path}.{step}.1")
                    x = x.relu() if step < i - j - 1 else x
                terms.append(x)
        if len(terms) == len(branches):  # the last module has only its first row
            fused.append(sum(terms[1:], terms[0]).relu())
    return fused


def bearpaw(state: State, x: torch.Tensor) -> torch.Tensor:
    x = norm(conv(x, state, "conv1", stride=2), state, "bn1").relu()
    x = _bearpaw_blocks(x, state, "layer1")
    x = _bearpaw_blocks(F.max_pool2d(x, 2), state, "layer2")
    x = _bearpaw_blocks(x, state, "layer3")
    stacks = count(state, "hg.")
    for stack in range(stacks):
        depth = count(state, f"hg.{stack}.hg.")

        def part(y: torch.Tensor, level: int, kind: int, stack: int = stack) -> torch.Tensor:
            return _bearpaw_blocks(y, state, f"hg.{stack}.hg.{level}.{kind}")

        y = _bearpaw_blocks(_nested(x, depth - 1, part), state, f"res.{stack}")
        y = norm(conv(y, state, f"fc.{stack}.0"), state, f"fc.{stack}.1").relu()
        score = conv(y, state, f"score.{stack}")
        if stack < stacks - 1:
            x = x + conv(y, state, f"fc_.{stack}") + conv(score, state, f"score_.{stack}")
    return score


def _nested(x: torch.Tensor, level: int, part: Callable[[torch.Tensor, int, int], torch.Tensor]) -> torch.Tensor:
    """One hourglass; parts 0 to 3 of a level are up1, low1, low3 and, at the innermost, low2."""
    low = part(F.max_pool2d(x, 2), level, 1)
    low = _nested(low, level - 1, part) if level else part(low, level, 3)
    return part(x, level, 0) + enlarge(part(low, level, 2), 2)


def _bearpaw_blocks(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    for block in range(count(state, f"{name}.")):
        y = x
        for i in (1, 2, 3):
            y = conv(norm(y, state, f"{name}.{block}.bn{i}").relu(), state, f"{name}.{block}.conv{i}")
        if f"{name}.{block}.downsample.0.weight" in state:
            x = conv(x, state, f"{name}.{block}.downsample.0")
        x = x + y
    return x


def princeton(state: State, x: torch.Tensor) -> torch.Tensor:
    x = norm(conv(x, state, "pre.0.conv", stride=2), state, "pre.0.bn").relu()
    x = F.max_pool2d(_princeton_block(x, state, "pre.1"), 2)
    x = _princeton_block(_princeton_block(x, state, "pre.3"), state, "pre.4")
    stacks = count(state, "hgs.")
    for stack in range(stacks):
        names = {0: "up1", 1: "low1", 2: "low3", 3: "low2"}

        def part(
            y: torch.Tensor, level: int, kind: int, stack: int = stack, names: dict[int, str] = names
        ) -> torch.Tensor:
            return _princeton_block(y, state, f"hgs.{stack}.0{'.low2' * (3 - level)}.{names[kind]}")

        y = _princeton_block(_nested(x, 3, part), state, f"features.{stack}.0")
        y = norm(conv(y, state, f"features.{stack}.1.conv"), state, f"features.{stack}.1.bn").relu()
        heatmaps = conv(y, state, f"outs.{stack}.conv")
        if stack < stacks - 1:
            back = conv(heatmaps, state, f"merge_preds.{stack}.conv.conv")
            x = x + back + conv(y, state, f"merge_features.{stack}.conv.conv")
    return heatmaps


def _princeton_block(x: torch.Tensor, state: State, name: str) -> torch.Tensor:
    y = x
    for i in (1, 2, 3):
        y = conv(norm(y, state, f"{name}.bn{i}").relu(), state, f"{name}.conv{i}.conv")
    same_width = state[f"{name}.conv3.conv.weight"].shape[0] == x.shape[1]
    return y + (x if same_width else conv(x, state, f"{name}.skip_layer.conv"))


def cpm(state: State, x: torch.Tensor) -> torch.Tensor:
    def layer(y: torch.Tensor, name: str) -> torch.Tensor:
        y = conv(y, state, f"{name}.conv")
        return norm(y, state, f"{name}.bn").relu() if f"{name}.bn.weight" in state else y

    def trunk(y: torch.Tensor, name: str, layers: range) -> torch.Tensor:
        for i in layers:
            pooled = f"{name}.{i}.conv.weight" not in state
            y = F.max_pool2d(y, 3, stride=2, padding=1) if pooled else layer(y, f"{name}.{i}")
        return y

    heatmaps = trunk(x, "stem", range(10))
    features = trunk(x, "middle", range(6))
    for stage in range(count(state, "cpm_stages.")):
        y = torch.cat([heatmaps, layer(features, f"middle_conv.{stage}.0")], dim=1)
        for i in range(count(state, f"cpm_stages.{stage}.model.")):
            y = layer(y, f"cpm_stages.{stage}.model.{i}")
        heatmaps = layer(layer(y, f"out_convs.{stage}.0"), f"out_convs.{stage}.1")
    return heatmaps


def hourglass52(state: State, x: torch.Tensor) -> torch.Tensor:
    def blocks(y: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        for block in range(count(state, f"{name}.")):
            y = strided(y, f"{name}.{block}", stride if block == 0 else 1)
        return y

    def strided(y: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        z = norm(conv(y, state, f"{name}.conv1", stride), state, f"{name}.bn1").relu()
        z = norm(conv(z, state, f"{name}.conv2"), state, f"{name}.bn2")
        if f"{name}.downsample.0.weight" in state:
            y = norm(conv(y, state, f"{name}.downsample.0", stride), state, f"{name}.downsample.1")
        return (y + z).relu()

    def node(y: torch.Tensor, name: str) -> torch.Tensor:
        low = blocks(y, f"{name}.low1", stride=2)
        low = node(low, f"{name}.low2") if f"{name}.low2.up1.0.conv1.weight" in state else blocks(low, f"{name}.low2")
        return blocks(y, f"{name}.up1") + enlarge(blocks(low, f"{name}.low3"), 2)

    x = norm(conv(x, state, "stem.0.conv", stride=2), state, "stem.0.bn").relu()
    x = node(blocks(x, "stem.1", stride=2), "hourglass_modules.0")
    x = norm(conv(x, state, "out_convs.0.conv"), state, "out_convs.0.bn").relu()
    return conv(x, state, "multi_final_layers.0")
