"""The licence of the repository that publishes each network's weights; docs/models.md says which were read there."""

from __future__ import annotations

OWN = "Apache-2.0"
BY_ADDRESS = {"https://download.openmmlab.com/": "Apache-2.0"}  # mmpose
BY_NAME = {  # of those whose file has no address: the publisher's repository
    "lightweight_openpose": "Apache-2.0",  # Daniil-Osokin/lightweight-human-pose-estimation.pytorch
    "posenet_": "MIT",  # mks0601/3DMPPE_POSENET_RELEASE
    "rtm": "Apache-2.0",  # open-mmlab/mmpose
    "simplebaseline3d": "MIT",  # una-dinosauria/3d-pose-baseline
    "stacked_hourglass_1": "GPL-3.0",  # bearpaw/pytorch-pose
    "stacked_hourglass_": "BSD-3-Clause",  # princeton-vl/pytorch_stacked_hourglass
    "videopose3d_": "CC-BY-NC-4.0",  # facebookresearch/VideoPose3D
    "vitpose_": "Apache-2.0",  # ViTAE-Transformer/ViTPose
}


def licence_of(name: str, url: str, *, embedded: bool = False) -> str:
    """A row's licence by its SPDX name; "-" where nobody published weights of that network.

    Args:
        name: of the network, as `--model` takes it.
        url: of its published file; empty where there is none.
        embedded: whether its weights are in this package.
    """
    if embedded:
        return OWN
    for start, licence in BY_ADDRESS.items():
        if url.startswith(start):
            return licence
    return next((licence for start, licence in BY_NAME.items() if name.startswith(start)), "-")
