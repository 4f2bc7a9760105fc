"""The registered models: the table of architectures, and a loop over them and the variants."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from timm.models import (
    DefaultCfg,
    build_model_with_cfg,
    get_arch_pretrained_cfgs,
    model_entrypoint,
    register_model,
)
from torch import nn

from ..convert import lp_convert, spare_masks_from_weight_decay
from .alexnet import rename_torchvision as rename_torchvision_alexnet
from .checkpoint import RenameFn, checkpoint_filter_fn, rename_torchvision_convnext, rename_torchvision_vgg
from .replknet import rename_original as rename_original_replknet
from .variants import VARIANTS, Variant

_PAPER = "Brain-inspired Lp-Convolution Benefits Large Kernels and Aligns Better with Visual Cortex"
_FOUR_STAGES = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}


@dataclass(frozen=True)
class Architecture:
    """A base network.

    Attributes:
        name: Its name in timm's registry.
        kernel_scale: 2 for the paper's larger kernels, 1 where it keeps them.
        feature_cfg: How timm wraps it for `features_only`, as in timm's own entry.
        rename: Gives the names of the authors' checkpoints timm's form.
    """

    name: str
    kernel_scale: int = 2
    feature_cfg: dict[str, Any] = field(default_factory=dict)
    rename: RenameFn | None = None


ARCHITECTURES = (
    Architecture("alexnet", feature_cfg=_FOUR_STAGES, rename=rename_torchvision_alexnet),
    Architecture(
        "vgg16",
        feature_cfg={"out_indices": (0, 1, 2, 3, 4, 5), "flatten_sequential": True},
        rename=rename_torchvision_vgg,
    ),
    Architecture("resnet18"),
    Architecture("resnet34"),
    Architecture("resnet50"),
    Architecture("resnext50_32x4d"),
    Architecture("densenet121", feature_cfg={"flatten_sequential": True}),
    Architecture("convnext_tiny", feature_cfg=_FOUR_STAGES, rename=rename_torchvision_convnext),
    Architecture("convnextv2_tiny", feature_cfg=_FOUR_STAGES),
    Architecture("replknet31", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet31_base", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet31_large", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet_xl", 1, _FOUR_STAGES, rename_original_replknet),
)

_ALL_OPTIONS = frozenset().union(*(variant.options for variant in VARIANTS))


def create_variant(variant: Variant, architecture: Architecture, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build a converted model through timm's `build_model_with_cfg`.

    timm builds the base network, we replace its convolutions, timm loads the weights and wraps the features.

    Args:
        variant: How to convert.
        architecture: What to convert.
        pretrained: Whether to load weights: the base network's, ours, or the authors'.
        **kwargs: The variant's options (`p_init`, `trainable_mask`, `preserve`), and what timm takes.

    Raises:
        TypeError: If an option of `lp_convert` is given that this variant fixes.
    """
    name = f"{variant.prefix}_{architecture.name}"
    fixed = sorted(kwargs.keys() & (_ALL_OPTIONS - variant.options))
    if fixed:
        allowed = ", ".join(sorted(variant.options)) or "none"
        raise TypeError(
            f"`{fixed[0]}` must not be given to {name}, got {kwargs[fixed[0]]!r}. This variant fixes it (its options: "
            f"{allowed}); lp_{architecture.name} takes all of them."
        )
    options = {key: kwargs.pop(key) for key in variant.options & kwargs.keys()}
    conversion = {**variant.conversion, **options, "kernel_scale": architecture.kernel_scale}

    def build(**model_kwargs: Any) -> nn.Module:
        return lp_convert(model_entrypoint(architecture.name)(**model_kwargs), **conversion)

    model = build_model_with_cfg(
        build,
        name,
        pretrained,
        pretrained_filter_fn=partial(
            checkpoint_filter_fn,
            rename=architecture.rename,
            kernel_scale=architecture.kernel_scale,
            preserve=conversion.get("preserve", True),
        ),
        pretrained_strict=False,  # the filter is the strict one, and refuses before anything is loaded
        feature_cfg=dict(architecture.feature_cfg),
        **kwargs,
    )
    if variant.masked:
        spare_masks_from_weight_decay(model)  # timm's wrappers for features lack what the network has
    return model


def _default_cfg(architecture: Architecture) -> DefaultCfg:
    """Return timm's configurations of the base network, which say where its weights are, tag by tag."""
    cfgs = get_arch_pretrained_cfgs(architecture.name)
    by_tag = {cfg.tag or "": replace(cfg, architecture=None, tag=None, paper_name=_PAPER) for cfg in cfgs.values()}
    return DefaultCfg(tags=deque(by_tag), cfgs=by_tag, is_pretrained=any(cfg.has_weights for cfg in by_tag.values()))


def _entrypoint(variant: Variant, architecture: Architecture) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_variant(variant, architecture, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = f"{variant.prefix}_{architecture.name}"
    create.__doc__ = f"{architecture.name} with {variant.summary}."
    return create


__all__ = ["ARCHITECTURES", "Architecture", "create_variant"]

default_cfgs: dict[str, DefaultCfg] = {}

for _architecture in ARCHITECTURES:
    for _variant in VARIANTS:
        _create = _entrypoint(_variant, _architecture)
        default_cfgs[_create.__name__] = _default_cfg(_architecture)
        globals()[_create.__name__] = register_model(_create)
