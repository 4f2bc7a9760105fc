"""The registered models: a loop over the architectures and the variants."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
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
from .architectures import BASES, Architecture
from .checkpoint import checkpoint_filter_fn
from .small_stem import SMALL_STEMS
from .variants import VARIANTS, Variant

_PAPER = "Brain-inspired Lp-Convolution Benefits Large Kernels and Aligns Better with Visual Cortex"

ARCHITECTURES = (*BASES, *SMALL_STEMS.values())
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


__all__ = ["ARCHITECTURES", "create_variant"]

default_cfgs: dict[str, DefaultCfg] = {}

for _architecture in ARCHITECTURES:
    for _variant in VARIANTS:
        _create = _entrypoint(_variant, _architecture)
        default_cfgs[_create.__name__] = _default_cfg(_architecture)
        globals()[_create.__name__] = register_model(_create)
