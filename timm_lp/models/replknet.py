"""RepLKNet (Ding et al., CVPR 2022), which timm lacks: the paper's modern network with large kernels (Table 3).

Each large depthwise convolution has a small one beside it while training; `timm.utils.reparameterize_model` merges
the two, with their norms, into one. The names are those of the original release, but for the head and for the
transitions between stages, which are here the `downsample` of the stage that they lead to; `rename_original` knows.
"""

import re
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead, ConvNormAct, DropPath, get_device_dtype
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .reparam_large_kernel import ReparamLargeKernelConv

__all__ = ["RepLKNet"]


class RepLKBlock(nn.Module):
    """Pointwise, large depthwise and pointwise convolution, with a shortcut."""

    def __init__(
        self,
        channels: int,
        dw_channels: int,
        kernel_size: int,
        small_kernel: int | None,
        drop_path: float,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.prelkb_bn = nn.BatchNorm2d(channels, **dd)
        self.pw1 = ConvNormAct(channels, dw_channels, **dd)
        self.large_kernel = ReparamLargeKernelConv(dw_channels, kernel_size, small_kernel, **dd)
        self.lk_nonlinear = nn.ReLU()
        self.pw2 = ConvNormAct(dw_channels, channels, apply_act=False, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to the same shape."""
        out = self.lk_nonlinear(self.large_kernel(self.pw1(self.prelkb_bn(x))))
        return x + self.drop_path(self.pw2(out))


class ConvFFN(nn.Module):
    """Two pointwise convolutions, with a shortcut."""

    def __init__(
        self, channels: int, hidden_channels: int, drop_path: float, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.preffn_bn = nn.BatchNorm2d(channels, **dd)
        self.pw1 = ConvNormAct(channels, hidden_channels, apply_act=False, **dd)
        self.nonlinear = nn.GELU()
        self.pw2 = ConvNormAct(hidden_channels, channels, apply_act=False, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to the same shape."""
        return x + self.drop_path(self.pw2(self.nonlinear(self.pw1(self.preffn_bn(x)))))


class RepLKNetStage(nn.Module):
    """Blocks of one resolution, behind a downsampling where `in_channels` differs."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        small_kernel: int | None,
        dw_ratio: float,
        ffn_ratio: float,
        drop_path_rates: list[float],
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.grad_checkpointing = False
        self.downsample: nn.Module = nn.Identity()
        if in_channels != channels:
            self.downsample = nn.Sequential(
                ConvNormAct(in_channels, channels, **dd),
                ConvNormAct(channels, channels, 3, stride=2, groups=channels, **dd),
            )
        blocks: list[nn.Module] = []
        for rate in drop_path_rates:
            blocks.append(RepLKBlock(channels, int(channels * dw_ratio), kernel_size, small_kernel, rate, **dd))
            blocks.append(ConvFFN(channels, int(channels * ffn_ratio), rate, **dd))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C_in, H, W)` to `(N, C, H / 2, W / 2)`, or to `(N, C, H, W)` in the first stage."""
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class RepLKNet(nn.Module):
    """RepLKNet with timm's model interface.

    Args:
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the input.
        global_pool: Pooling in front of the classifier.
        kernel_sizes: Large kernel of each stage, pixels.
        depths: Pairs of blocks in each stage.
        dims: Channels of each stage.
        small_kernel: Kernel of the small branch, pixels, or None for none.
        dw_ratio: Channels of the depthwise convolution over those of the stage.
        ffn_ratio: Hidden channels of the pointwise network over those of the stage.
        drop_rate: Dropout in front of the classifier, a fraction.
        drop_path_rate: Stochastic depth of the last block, a fraction; it grows linearly from 0.
        device: As in `nn.Module`.
        dtype: As in `nn.Module`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        kernel_sizes: tuple[int, ...] = (31, 29, 27, 13),
        depths: tuple[int, ...] = (2, 2, 18, 2),
        dims: tuple[int, ...] = (128, 256, 512, 1024),
        small_kernel: int | None = 5,
        dw_ratio: float = 1.0,
        ffn_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.stem = nn.Sequential(
            ConvNormAct(in_chans, dims[0], 3, stride=2, **dd),
            ConvNormAct(dims[0], dims[0], 3, groups=dims[0], **dd),
            ConvNormAct(dims[0], dims[0], **dd),
            ConvNormAct(dims[0], dims[0], 3, stride=2, groups=dims[0], **dd),
        )
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        self.stages = nn.Sequential(
            *(
                RepLKNetStage(
                    dims[max(i - 1, 0)],
                    dims[i],
                    kernel_sizes[i],
                    small_kernel,
                    dw_ratio,
                    ffn_ratio,
                    rates[i].tolist(),
                    **dd,
                )
                for i in range(len(depths))
            )
        )
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.num_features = dims[-1]
        self.norm: nn.Module = nn.BatchNorm2d(self.num_features, **dd)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate, **dd)

    @property
    @torch.jit.unused
    def head_hidden_size(self) -> int:
        """Number of features that the classifier sees."""
        return self.head.in_features * self.head.global_pool.feat_mult()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the patterns by which timm groups parameters, for layer decay."""
        blocks = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else blocks}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade computation for memory: keep only the inputs of the blocks for the backward pass."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment] # nn.Module hides its type

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the classifier."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one for `num_classes` classes."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, **get_device_dtype(self))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the features behind the stages.

        Args:
            x: Images, shape `(N, C, H, W)`.
            indices: Which stages: the last n, or those in the list, or all.
            norm: Apply the final norm to the last stage's features.
            stop_early: Stop after the last stage that was asked for.
            output_fmt: `"NCHW"`.
            intermediates_only: Return the list alone.

        Raises:
            ValueError: If `output_fmt` is not `"NCHW"`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"`output_fmt` must be 'NCHW', got {output_fmt!r}.")
        last = len(self.feature_info) - 1
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages[: max_index + 1] if stop_early else self.stages):
            x = stage(x)
            if index in take_indices:
                intermediates.append(self.norm(x) if norm and index == last else x)
        if intermediates_only:
            return intermediates
        return self.norm(x) if index == last else x, intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages behind the last one of `indices`, and return the stages that are kept."""
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        prune_end = max_index < len(self.stages) - 1
        self.stages = self.stages[: max_index + 1]
        if prune_norm or prune_end:
            self.norm = nn.Identity()
        self.num_features = self.feature_info[max_index]["num_chs"]
        if prune_head or prune_end:
            self.head.in_features = self.num_features
            self.reset_classifier(0, "")
        return take_indices

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features of images `(N, C, H, W)`, shape `(N, dims[-1], H / 32, W / 32)`."""
        return self.norm(self.stages(self.stem(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of features, or what the last linear layer sees."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images `(N, C, H, W)`, shape `(N, num_classes)`."""
        return self.forward_head(self.forward_features(x))


def rename_original(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the original release's state dict under this network's names."""
    if "head.weight" not in state_dict and not any(key.startswith("transitions.") for key in state_dict):
        return state_dict

    def rename(key: str) -> str:
        key = re.sub(r"^transitions\.(\d+)", lambda match: f"stages.{int(match[1]) + 1}.downsample", key)
        return re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", key)

    return {rename(key): value for key, value in state_dict.items()}


_SIZES: dict[str, dict[str, Any]] = {
    "replknet31": {"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512)},
    "replknet31_base": {},
    "replknet31_large": {"dims": (192, 384, 768, 1536)},
    "replknet_xl": {
        "dims": (256, 512, 1024, 2048),
        "kernel_sizes": (27, 27, 27, 13),
        "small_kernel": None,
        "dw_ratio": 1.5,
    },
}


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.0.conv",
        "classifier": "head.fc",
        "license": "mit",
        "origin_url": "https://github.com/DingXiaoH/RepLKNet-pytorch",
        "paper_ids": "arXiv:2203.06717",
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        "replknet31": _cfg(),
        "replknet31_base": _cfg(),
        "replknet31_large": _cfg(input_size=(3, 384, 384), pool_size=(12, 12), crop_pct=1.0),
        "replknet_xl": _cfg(input_size=(3, 320, 320), pool_size=(10, 10), crop_pct=1.0),
    }
)


def _create_replknet(variant: str, pretrained: bool, **kwargs: Any) -> RepLKNet:
    return build_model_with_cfg(
        RepLKNet,
        variant,
        pretrained,
        pretrained_filter_fn=rename_original,
        feature_cfg={"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
        **{**_SIZES[variant], **kwargs},
    )


@register_model
def replknet31(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet of the Lp-convolution paper: kernels 31, 29, 27, 13 in a small network (Table 3)."""
    return _create_replknet("replknet31", pretrained, **kwargs)


@register_model
def replknet31_base(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-31B (https://arxiv.org/abs/2203.06717)."""
    return _create_replknet("replknet31_base", pretrained, **kwargs)


@register_model
def replknet31_large(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-31L (https://arxiv.org/abs/2203.06717)."""
    return _create_replknet("replknet31_large", pretrained, **kwargs)


@register_model
def replknet_xl(pretrained: bool = False, **kwargs: Any) -> RepLKNet:
    """RepLKNet-XL (https://arxiv.org/abs/2203.06717)."""
    return _create_replknet("replknet_xl", pretrained, **kwargs)
