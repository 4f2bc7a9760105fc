"""RepLKNet's large depthwise convolution, with a small one beside it that deployment merges into it."""

from typing import Any

import torch
from timm.layers import ConvNormAct
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..layers import LpConv2d, build_like, embed_kernel


class ReparamLargeKernelConv(nn.Module):
    """A large depthwise convolution with a small one beside it, each with its norm.

    Args:
        channels: Channels of input and output.
        kernel_size: Size of the large kernel, pixels.
        small_kernel: Size of the small kernel, pixels, or None for no small branch.
        device: As in `nn.Module`.
        dtype: As in `nn.Module`.
    """

    merges_lp_conv2d = True  # lp_convert lets it merge

    def __init__(
        self, channels: int, kernel_size: int, small_kernel: int | None, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        kwargs = {"groups": channels, "apply_act": False, "device": device, "dtype": dtype}
        self.lkb_origin = ConvNormAct(channels, channels, kernel_size, **kwargs)
        self.small_conv = ConvNormAct(channels, channels, small_kernel, **kwargs) if small_kernel else None
        self.lkb_reparam: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches, or of the convolution that they were merged into."""
        if self.lkb_reparam is not None:
            out = self.lkb_reparam(x)
        else:
            out = self.lkb_origin(x)
            if self.small_conv is not None:
                out = out + self.small_conv(x)
        return out

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge the branches, in their evaluation mode, into one plain convolution."""
        if self.lkb_reparam is not None:
            return
        merged, weight, bias = _fuse_conv_norm(self.lkb_origin)
        if self.small_conv is not None:
            _, small_weight, small_bias = _fuse_conv_norm(self.small_conv)
            weight = weight + embed_kernel(small_weight, merged.kernel_size)
            bias = bias + small_bias
        self.lkb_reparam = build_like(nn.Conv2d, merged, merged.kernel_size, merged.padding, bias=True)
        self.lkb_reparam.load_state_dict({"weight": weight, "bias": bias})
        del self.lkb_origin, self.small_conv


def _fuse_conv_norm(layer: ConvNormAct) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """Return a layer's convolution without mask, and the weight and bias that include its norm's running statistics."""
    conv = layer.conv.to_conv2d() if isinstance(layer.conv, LpConv2d) else layer.conv
    bn = layer.bn
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return conv, weight, bias
