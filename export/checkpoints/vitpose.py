"""ViTPose's checkpoints in their four layouts -> the names of the original repository's, one expert chosen.

The layouts: the original repository's ViTPose and ViTPose+ (the second with six experts in each block and a head for
each data set), mmpose v1's (a transformer of mmpretrain's), and transformers' (`usyd-community/vitpose-*`), whose
query, key and value are three layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch.nn import functional

State = Mapping[str, torch.Tensor]

_PATCHES = "embeddings.patch_embeddings.projection.weight"  # transformers' name for them, which no other layout has
EXPERTS = ("coco", "aic", "mpii", "ap10k", "apt36k", "wholebody")  # of ViTPose+, in the order of its training
_ASPECT = 4 / 3  # rows to columns of the patches of every published file: 256 x 192 px

_MMPOSE = (  # mmpretrain's names -> the original ones
    (r"^layers\.(\d+)\.ln1\.", r"blocks.\1.norm1."),
    (r"^layers\.(\d+)\.ln2\.", r"blocks.\1.norm2."),
    (r"^layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
    (r"^layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
    (r"^layers\.(\d+)\.attn\.", r"blocks.\1.attn."),
    (r"^ln1\.", "last_norm."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
)
_TRANSFORMERS = (
    (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.attn."),
    (r"^encoder\.layer\.(\d+)\.mlp\.experts\.(?:experts\.)?", r"blocks.\1.mlp.experts."),
    (r"^encoder\.layer\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
    (r"^layernorm\.", "last_norm."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^deconv1\.", "deconv_layers.0."),
    (r"^batchnorm1\.", "deconv_layers.1."),
    (r"^deconv2\.", "deconv_layers.3."),
    (r"^batchnorm2\.", "deconv_layers.4."),
    (r"^conv\.", "final_layer."),
)


def is_vitpose(state: State) -> bool:
    """Whether a state dict without the prefixes of trunk and head is ViTPose's, in whichever layout."""
    return bool({"pos_embed", "embeddings.position_embeddings"} & set(state)) and any(
        key in state for key in ("patch_embed.proj.weight", "patch_embed.projection.weight", _PATCHES)
    )


def experts_of(state: State) -> int:
    """How many experts a checkpoint has: 0 for ViTPose, 6 for ViTPose+."""
    found = (re.search(r"\.mlp\.experts\.(?:experts\.)?(\d+)\.weight$", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def for_network(state: State, dataset: str, input_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What the network of a data set loads: `to_original` with ViTPose+'s expert of that data set, if there are any.

    A state dict of another network stays as it is.

    Args:
        dataset: one of EXPERTS; any where there are no experts.
        input_hw: of the network.
    """
    if not is_vitpose(state):
        return dict(state)
    expert = EXPERTS.index(dataset) if experts_of(state) else 0
    return to_original(state, expert=expert, grid_hw=(input_hw[0] // 16, input_hw[1] // 16))


def to_original(state: State, *, expert: int = 0, grid_hw: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """A checkpoint of any layout in the original repository's names, as the network has them.

    Args:
        state: without the prefixes of trunk and head (`backbone.`, `head.`, `keypoint_head.`).
        expert: of ViTPose+, an index into EXPERTS; its weights become part of each block's second layer, and the head
            of its data set the head, where the file has one.
        grid_hw: rows and columns of patches of the network's input; the position embedding is interpolated where the
            file's has another size (bicubic, as ViTPose and mmpretrain do); None leaves it.

    Raises:
        ValueError: there is no such expert, or the position embedding is of no known size.
    """
    names = _TRANSFORMERS if _PATCHES in state else _MMPOSE
    named: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        named[key] = tensor
    named = _with_joined_attention(named)
    named = _with_expert(named, expert)
    named["pos_embed"] = _positions(named["pos_embed"], grid_hw)
    return named


def _with_joined_attention(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Query, key and value of each block as one layer."""
    joined = dict(state)
    for key in state:
        if match := re.fullmatch(r"(blocks\.\d+\.attn\.)query\.(weight|bias)", key):
            names = [f"{match[1]}{name}.{match[2]}" for name in ("query", "key", "value")]
            if set(names) <= set(state):  # else what is missing is told where the network is loaded
                joined[f"{match[1]}qkv.{match[2]}"] = torch.cat([joined.pop(name) for name in names])
    return joined


def _with_expert(state: dict[str, torch.Tensor], expert: int) -> dict[str, torch.Tensor]:
    """Each block's second layer with the expert's rows behind the shared ones, and the head of its data set."""
    count = experts_of(state)
    if not 0 <= expert < max(count, 1):
        if not count:
            raise ValueError(f"expert {expert} of a checkpoint that has none")
        asked = f" ({EXPERTS[expert]})" if 0 <= expert < len(EXPERTS) else ""
        raise ValueError(
            f"it has {count} experts ({', '.join(EXPERTS[:count])}), and none with index {expert}{asked}: choose "
            f"another --dataset"
        )
    chosen = {key: tensor for key, tensor in state.items() if ".mlp.experts." not in key and "associate_" not in key}
    if not count:
        return chosen
    for key, tensor in list(chosen.items()):
        if match := re.fullmatch(r"(blocks\.\d+\.mlp\.)fc2\.(weight|bias)", key):
            chosen[key] = torch.cat([tensor, state[f"{match[1]}experts.{expert}.{match[2]}"]])
    head = f"associate_keypoint_heads.{expert - 1}."
    chosen.update({key.removeprefix(head): tensor for key, tensor in state.items() if key.startswith(head)})
    return chosen


def _positions(embedding: torch.Tensor, grid_hw: tuple[int, int] | None) -> torch.Tensor:
    """(1, 1 + rows * columns, width); mmpose's files have no first one, which is the same as one of zeros."""
    tokens = embedding.shape[1]
    columns = round((tokens / _ASPECT) ** 0.5)
    rows = round(columns * _ASPECT)
    if grid_hw and tokens in (grid_hw[0] * grid_hw[1], grid_hw[0] * grid_hw[1] + 1):
        rows, columns = grid_hw
    if tokens not in (rows * columns, rows * columns + 1):
        raise ValueError(f"a position embedding of {tokens} patches, wanted 4 rows for each 3 columns, such as 16 x 12")
    if tokens == rows * columns:
        embedding = torch.cat([torch.zeros_like(embedding[:, :1]), embedding], dim=1)
    if grid_hw is None or (rows, columns) == grid_hw:
        return embedding
    first, patches = embedding[:, :1], embedding[:, 1:]
    square = patches.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(square, size=grid_hw, mode="bicubic", align_corners=False)
    return torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1)
