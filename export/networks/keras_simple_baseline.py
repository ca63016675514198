"""SimpleBaseline as written with Keras: ResNet-50 of `tf.keras.applications` and a head of `Conv2DTranspose` layers.

It is the SimpleBaseline of Xiao et al. with the stride of a bottleneck on its first convolution, a bias in every
convolution, and Keras's BatchNorm epsilons. Padding agrees with PyTorch's: `ZeroPadding2D` before conv1 and the pool
are symmetric (and zeros never win over a ReLU's values), 'same' of a 3x3 at stride 1 and of a transposed 4x4 at
stride 2 is one pixel on each side.
"""

from __future__ import annotations

import torch
from torch import nn

from edgepose.export.networks.simple_baseline import SimpleBaseline

TRUNK_EPSILON = 1.001e-5  # keras.applications.resnet
HEAD_EPSILON = 1e-3  # keras.layers.BatchNormalization's default


class KerasSimpleBaseline(SimpleBaseline):
    """Crops (n, 3, H, W) -> heat maps (n, K, H/4, W/4), like every network here; `call_nhwc` is Keras's view of it.

    Parameter names are SimpleBaseline's; keras_weights.py knows Keras's.

    Args:
        num_keypoints: K.
        planes, deconv_filters: as in SimpleBaseline.
    """

    def __init__(
        self,
        num_keypoints: int,
        *,
        planes: tuple[int, int, int, int] = (64, 128, 256, 512),
        deconv_filters: int = 256,
    ) -> None:
        super().__init__(50, num_keypoints, caffe_style=True, planes=planes, deconv_filters=deconv_filters)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None:
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
            if isinstance(module, nn.BatchNorm2d):
                module.eps = TRUNK_EPSILON
        for module in self.deconv_layers:
            if isinstance(module, nn.BatchNorm2d):
                module.eps = HEAD_EPSILON


def call_nhwc(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the Keras model returns: normalised images (n, H, W, 3) -> heat maps (n, H/4, W/4, K)."""
    return network(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
