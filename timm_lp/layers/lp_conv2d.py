"""Lp-convolution, Eq. 3 and A.21 of Kwon et al. (ICLR 2025)."""

import math
import reprlib
from typing import Any, Literal

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..ops import (
    Geometry,
    MaskCache,
    can_compile,
    can_mask_fast,
    compiled_conv2d,
    lp_conv2d,
    lp_exponent,
    lp_mask,
    mask_weight,
    masked_conv2d,
    torch_is_fast,
)
from ..ops.window import Window
from .hooks import copy_hooks
from .large_kernel import build_like, check_conv2d, copy_weights, embed_kernel, large_kernel_size, large_padding

_LARGEST_P = 2.0**127  # beyond which float32 has no finite gradient

torch.fx.wrap("lp_mask")  # one call in symbolic traces, which do not know the dtype that its constants depend on


class LpConv2d(nn.Conv2d):
    """A `Conv2d` whose kernel is multiplied by a trainable Lp mask, one for each output channel (Eq. 3).

    The output is `conv2d(input, weight * mask)`. The arguments and parameters are those of `nn.Conv2d`, and the masks
    add the parameters `log2p`, shape `(O,)`, and `C`, shape `(O, 2, 2)`, 1/pixel, as in the authors' state dicts.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Size of the kernel, pixels.
        stride: Stride of the convolution, pixels.
        padding: Pixels on each side, `"same"`, or `"valid"`.
        dilation: Distance between the kernel's taps, pixels.
        groups: As in `nn.Conv2d`.
        bias: Whether to add a trainable bias.
        padding_mode: As in `nn.Conv2d`.
        p_init: Exponent p that the masks start with; 2 is a Gaussian, 16 almost a box.
        sigma_init: Width of the masks at the start, pixels, a number or `(height, width)`; None for a quarter of the
            kernel. The paper takes half of the small kernel, which is about that.
        device: As in `nn.Conv2d`.
        dtype: As in `nn.Conv2d`.

    Shape:
        As in `nn.Conv2d`: input `(N, C, H, W)`, output `(N, O, H', W')`.

    Raises:
        ValueError: If `p_init` is not a finite number >= 1, or `sigma_init` not a positive, finite number or a
            pair of them.
    """

    kernel_size: tuple[int, int]
    _mask_cache: MaskCache | None = None  # made when it is needed; it is neither copied nor saved
    __jit_ignored_attributes__ = ("_mask_cache",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        p_init: float = 2.0,
        sigma_init: float | tuple[float, float] | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_p_init(p_init)
        sigma_init = tuple(k / 4 for k in _pair(kernel_size)) if sigma_init is None else tuple(_pair(sigma_init))
        if len(sigma_init) != 2 or not all(math.isfinite(s) and s > 0 for s in sigma_init):
            raise ValueError(
                f"`sigma_init` must be a positive, finite number or a pair of them, got {sigma_init}. "
                "Half of the original kernel is the paper's."
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.p_init = p_init
        self.sigma_init = sigma_init
        self.log2p = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        self.C = nn.Parameter(torch.empty(out_channels, 2, 2, device=device, dtype=dtype))
        self.reset_mask()

    def reset_parameters(self) -> None:
        """Draw a new kernel and bias as `nn.Conv2d` does, and reset the masks."""
        super().reset_parameters()
        if "C" in self._parameters:  # not yet in nn.Conv2d's own constructor
            self.reset_mask()

    @torch.no_grad()
    def reset_mask(self) -> None:
        """Set every mask to its start: p to `p_init`, `C` to `diag(1 / sigma_init)` (Table 1)."""
        self.log2p.fill_(math.log2(self.p_init))
        self.C.zero_()
        self.C[:, 0, 0] = 1 / self.sigma_init[0]
        self.C[:, 1, 1] = 1 / self.sigma_init[1]

    @property
    def p(self) -> Tensor:
        """Exponent of each mask, shape `(O,)`, at least 1."""
        return lp_exponent(self.log2p)

    @property
    def sigma(self) -> Tensor:
        """Width of each mask along the kernel's height and width, shape `(O, 2)`, pixels: 1 / norm of `C`'s columns."""
        return 1 / torch.linalg.vector_norm(self.C, dim=1)

    def mask(self) -> Tensor:
        """Return the masks (Eq. 2), shape `(O, 1, Kh, Kw)`, in float32 or wider."""
        return lp_mask(self.C, self.log2p, self.kernel_size)

    def masked_weight(self) -> Tensor:
        """Return the kernel that is convolved (Eq. 3), shape `(O, I, Kh, Kw)`, in the kernel's dtype."""
        return self._masked(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(N, C, H, W)` with the masked kernel to `(N, O, H', W')` (Eq. 3)."""
        return self._masked_conv_forward(input, self.weight, self.bias)

    def _masked_conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `conv2d(input, weight * mask) + bias` for any kernel, `(O, I, Kh, Kw)`, and bias, `(O,)`."""
        if not torch.jit.is_scripting():
            if isinstance(input, Tensor) and not torch.jit.is_tracing():  # torch.fx and torch.jit record the formula
                return self._fast_forward(input, weight, bias)
        return self._conv_forward(input, self._masked(weight), bias)

    def _masked(self, weight: Tensor) -> Tensor:
        """Return the product of a kernel and the masks, which is rounded once if the kernel's dtype is a narrow one."""
        return (weight * self.mask()).to(weight.dtype)

    def _fast_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the same output in the fastest way of `timm_lp.ops`."""
        if self.kernel_size == (1, 1) and not torch.is_grad_enabled() and torch_is_fast(input):
            return self._conv_forward(input, weight, bias)  # the mask of a single tap is 1
        padding = self._symmetric_zero_padding()
        if padding is None:
            whole = Window(0, self.kernel_size[0], 0, self.kernel_size[1])
            kernel = mask_weight(weight, self.C, self.log2p, whole).to(weight.dtype)
            return self._conv_forward(input, kernel, bias)
        geometry = Geometry(self.stride, padding, self.dilation, self.groups)
        tensors = (input, weight, bias, self.C, self.log2p)
        if can_compile(*tensors):
            return compiled_conv2d(*tensors, geometry)
        if not can_mask_fast(*tensors, geometry):
            return lp_conv2d(*tensors, geometry)
        if self._mask_cache is None:
            self._mask_cache = MaskCache()
        return masked_conv2d(*tensors, geometry, self._mask_cache)

    def _symmetric_zero_padding(self) -> tuple[int, ...] | None:
        """Return the zero padding `(height, width)`, pixels; None if it is not zeros, or if opposite sides differ."""
        if self.padding_mode != "zeros":
            return None
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "valid":
            return (0, 0)
        both_sides = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        return None if any(pixels % 2 for pixels in both_sides) else tuple(pixels // 2 for pixels in both_sides)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled: everything but the mask that is kept."""
        return {name: value for name, value in vars(self).items() if name != "_mask_cache"}

    @classmethod
    def from_conv2d(
        cls,
        conv: nn.Conv2d,
        p_init: float = 2.0,
        *,
        kernel_scale: int = 2,
        trainable_mask: bool = True,
        preserve: bool = True,
    ) -> "LpConv2d":
        """Return the Lp-convolution that starts from a convolution (Figure 3).

        The kernel is embedded in the centre of a larger one that is zero elsewhere; the padding grows so that the
        output size does not change; sigma starts at half of the original kernel.

        Args:
            conv: The original convolution; it is not changed.
            p_init: Exponent p that the masks start with.
            kernel_scale: See `large_kernel_size`.
            trainable_mask: False freezes `log2p` and `C`, the dagger of Table 1.
            preserve: True divides the embedded kernel by its mask, so that the layer computes what `conv` computes;
                False lets the mask damp it, as the authors do.

        Returns:
            A new layer with `conv`'s dtype, device and `requires_grad`.

        Raises:
            TypeError: If `conv` does not compute as a plain `nn.Conv2d` does.
        """
        check_conv2d(conv)
        kernel_size = large_kernel_size(conv.kernel_size, kernel_scale)
        sigma_init = tuple(k / 2 for k in conv.kernel_size)
        padding = large_padding(conv, kernel_size)
        layer = build_like(cls, conv, kernel_size, padding, p_init=p_init, sigma_init=sigma_init)
        layer.reset_mask()
        layer.log2p.requires_grad_(trainable_mask)
        layer.C.requires_grad_(trainable_mask)
        copy_weights(conv, layer, layer.embed(conv.weight.detach(), preserve=preserve))
        return layer

    @torch.no_grad()
    def embed(self, weight: Tensor, *, preserve: bool = True) -> Tensor:
        """Return a smaller kernel as this layer's kernel.

        Args:
            weight: Kernel, shape `(O, I, kh, kw)`.
            preserve: Whether to divide it by the mask's centre, so that the masked kernel equals `weight`.

        Returns:
            Kernel, shape `(O, I, Kh, Kw)`, zero outside the centre.
        """
        if preserve and not weight.is_meta:  # where there are no values, masks only cost time
            height, width = weight.shape[-2:]
            top, left = (self.kernel_size[0] - height) // 2, (self.kernel_size[1] - width) // 2
            mask = self.mask()[..., top : top + height, left : left + width]
            weight = (weight / mask.to(weight.device)).to(weight.dtype)
        return embed_kernel(weight, self.kernel_size)

    @torch.no_grad()
    def to_conv2d(self) -> nn.Conv2d:
        """Return a plain `nn.Conv2d` with the mask folded into its kernel, for deployment."""
        conv = build_like(nn.Conv2d, self, self.kernel_size, self.padding)
        weight = self.weight if self.weight.is_meta else self.masked_weight()  # masks only cost time here too
        copy_weights(self, conv, weight)
        return conv

    def fuse(self) -> nn.Conv2d:
        """Return `to_conv2d` with the forward and backward hooks of this layer.

        `timm.utils.reparameterize_model` calls this to replace the layer.
        """
        conv = self.to_conv2d()
        copy_hooks(self, conv)
        return conv

    def extra_repr(self) -> str:
        """Return the arguments of the convolution, and p and sigma of the masks."""
        if self.C.is_meta:
            return f"{super().extra_repr()}, p={self.p_init:.4g}, sigma={self.sigma_init}"
        height, width = self.sigma.detach().unbind(dim=1)
        return f"{super().extra_repr()}, p={_spread(self.p)}, sigma=({_spread(height)}, {_spread(width)})"


def check_p_init(p_init: float) -> None:
    """Refuse an exponent that is not a finite number >= 1.

    Raises:
        ValueError: If `p_init` is not a finite number >= 1.
    """
    if not (isinstance(p_init, (int, float)) and 1 <= p_init <= _LARGEST_P):
        raise ValueError(
            f"`p_init` must be a finite number >= 1, got {reprlib.repr(p_init)}. Use 2 for a Gaussian mask, 16 for "
            "almost a box."
        )


def _spread(values: Tensor) -> str:
    """Return the range of `values` as text, one number where they agree."""
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low}..{high}"
