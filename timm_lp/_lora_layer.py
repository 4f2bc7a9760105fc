"""peft's LoRA layer for `LpConv2d`; needs peft."""

import math
import warnings
from typing import Any

import peft
import torch
from packaging.version import Version
from peft.tuners.lora import LoraConfig, LoraLayer
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn

from .layers import LpConv2d
from .layers.hooks import has_hooks

if Version(peft.__version__) < Version("0.20"):
    raise ImportError(f"peft 0.20 or newer is needed, got {peft.__version__}.")


class LoraLpConv2d(nn.Module, LoraLayer):
    """An `LpConv2d` with low-rank updates of its kernel, under the mask.

    `y = conv(x, (W + scaling * B A) * mask)`, with the kernel W as a matrix of shape `(O, I * Kh * Kw)`. The factors
    are the kernels of plain convolutions: A, `(r, I, Kh, Kw)`, in `lora_A`, and B, `(O, r, 1, 1)`, in `lora_B`; I
    counts the input channels of a group. While dropout is active, an update sees another input than the kernel:
    `y = conv(x, W * mask) + conv(dropout(x), scaling * B A * mask)`.

    Args:
        base_layer: The layer, whose kernel and masks peft freezes.
        adapter_name: Name of the first adapter.
        config: Its configuration.
        r: Its rank.
        lora_alpha: `scaling` is `lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora`.
        **kwargs: What else peft tells its layers; not used.

    Raises:
        TypeError: If `base_layer` is not an `LpConv2d`.
        ValueError: If its kernel is not a parameter, if it has hooks, or for what `update_layer` refuses.
    """

    adapts_lp_conv2d = True  # it knows masks

    lora_A: nn.ModuleDict
    lora_B: nn.ModuleDict
    lora_dropout: nn.ModuleDict

    def __init__(
        self, base_layer: LpConv2d, adapter_name: str, config: LoraConfig, r: int, lora_alpha: int, **kwargs: Any
    ) -> None:
        super().__init__()
        LoraLayer.__init__(self, base_layer)
        base = self._lp_conv2d()
        if "weight" not in base._parameters or has_hooks(base):
            problem = "hooks" if has_hooks(base) else "a parametrized kernel"
            raise ValueError(
                f"`base_layer` must have no hooks and no parametrized kernel, got LpConv2d({base.extra_repr()}) with "
                f"{problem}. Remove them first, or leave the layer out of `target_modules`."
            )
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, lora_alpha, config)

    def update_layer(self, adapter_name: str, r: int, lora_alpha: int, config: LoraConfig, **kwargs: Any) -> None:
        """Add an adapter.

        Args:
            adapter_name: Its name.
            r: Its rank.
            lora_alpha: See `scaling`.
            config: Its configuration.
            **kwargs: What else peft tells its layers; not used.

        Raises:
            ValueError: If `r` is not positive, or the configuration asks for what is not plain LoRA.
        """
        if r <= 0:
            raise ValueError(f"`r` must be a positive integer, got {r}.")
        if config.lora_bias:
            raise ValueError("`lora_bias` must be False for LpConv2d, got True. An adapter changes the kernel alone.")
        if config.init_lora_weights not in (True, False, "gaussian"):
            raise ValueError(
                f"`init_lora_weights` must be True, False or 'gaussian' for LpConv2d, got {config.init_lora_weights!r}."
            )
        self.resolve_lora_variant(config=config)  # refuses DoRA and all others by their names
        base = self._lp_conv2d()
        height, width = base.kernel_size
        self.r[adapter_name] = r
        self.lora_alpha[adapter_name] = lora_alpha
        self.scaling[adapter_name] = lora_alpha / (math.sqrt(r) if config.use_rslora else r)
        self.use_rslora[adapter_name] = config.use_rslora
        self.use_dora[adapter_name] = self.lora_bias[adapter_name] = False
        self.lora_dropout[adapter_name] = nn.Dropout(config.lora_dropout) if config.lora_dropout else nn.Identity()
        self.lora_A[adapter_name] = nn.Conv2d(base.in_channels // base.groups, r, (height, width), bias=False)
        self.lora_B[adapter_name] = nn.Conv2d(r, base.out_channels, 1, bias=False)
        self.reset_lora_parameters(adapter_name, config.init_lora_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return an adapter's update of the kernel, without the mask, shape `(O, I, Kh, Kw)`, in the kernel's dtype."""
        weight = self._lp_conv2d().weight
        A, B = (factors[adapter].get_parameter("weight") for factors in (self.lora_A, self.lora_B))
        return (B.flatten(1) @ A.flatten(1) * self.scaling[adapter]).view(weight.shape).to(weight.dtype)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the kernel.

        Args:
            safe_merge: Whether to check each update first.
            adapter_names: Which adapters; None for the active ones.

        Raises:
            ValueError: If a checked kernel would not be finite; it stays as it was.
        """
        weight = self._lp_conv2d().weight
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.lora_A:
                continue
            merged = weight + self.get_delta_weight(name)
            if safe_merge and not merged.isfinite().all():
                raise ValueError(f"`{name}` must have finite weights to be merged, got others. It is not merged.")
            weight.copy_(merged)
            self.merged_adapters.append(name)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take all merged adapters out of the kernel."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            self._lp_conv2d().weight.sub_(self.get_delta_weight(self.merged_adapters.pop()))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Convolve `(N, C, H, W)` with the masked, updated kernel to `(N, O, H', W')`.

        Raises:
            TypeError: If the layer below is no `LpConv2d` any more.
            ValueError: If `adapter_names` is given, with which peft chooses an adapter for each image.
        """
        if kwargs.get("adapter_names") is not None:
            raise ValueError(
                f"`adapter_names` must not be given to a network with adapted LpConv2d, got {kwargs['adapter_names']}. "
                "Choose the adapter of all images with `set_adapter`."
            )
        base = self._lp_conv2d()
        if self.disable_adapters and self.merged:
            self.unmerge()
        kernel, dropped = base.weight, []
        for name in [] if self.disable_adapters or self.merged else self.active_adapters:
            if name not in self.lora_A:
                continue
            delta, dropout = self.get_delta_weight(name), self.lora_dropout[name]
            if self.training and isinstance(dropout, nn.Dropout):
                dropped.append(base._masked_conv_forward(dropout(x), delta, None))
            else:
                kernel = kernel + delta
        return sum(dropped, base._masked_conv_forward(x, kernel, base.bias))

    def _lp_conv2d(self) -> LpConv2d:
        """Return the layer below, if its mask is still there."""
        if not isinstance(self.base_layer, LpConv2d):
            raise TypeError(
                f"`base_layer` must be an LpConv2d, got {type(self.base_layer).__name__}. Merge the adapters "
                "(`merge_and_unload`) before the masks (`lp_merge`)."
            )
        return self.base_layer
