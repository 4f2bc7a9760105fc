"""The registered models: a loop over the architectures and the variants."""

import reprlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from timm.models import (
    DefaultCfg,
    get_arch_pretrained_cfgs,
    get_deprecated_models,
    is_model,
    model_entrypoint,
    register_model,
)
from torch import nn

from ..convert import swap_convs
from ..layers import crop_conv2d_to
from ..merge import lp_merge
from ..notes import filter_of_layers, read_conversion
from ..variants import BASE, VARIANTS, Variant
from ..weight_decay import spare_masks_from_weight_decay
from .architectures import BASES, Architecture
from .building import build_form
from .checkpoint import checkpoint_filter_fn
from .names import register_when_asked
from .saving import check_what_timm_saves
from .small_stem import SMALL_STEMS
from .variants import split_name

_PAPER = "Brain-inspired Lp-Convolution Benefits Large Kernels and Aligns Better with Visual Cortex"

ARCHITECTURES = (*BASES, *SMALL_STEMS.values())
_ALL_OPTIONS = frozenset().union(*(variant.options for variant in VARIANTS))
FORM_ARGUMENTS = _ALL_OPTIONS | {"conversion", "merged", "cropped"}  # what base networks do not take


def create_variant(
    variant: Variant,
    architecture: Architecture,
    pretrained: bool = False,
    *,
    conversion: Mapping[str, Any] | None = None,
    merged: bool = False,
    cropped: Mapping[str, Sequence[int]] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a converted model by timm's own entry of the base network.

    timm builds the base network, we replace its convolutions, timm loads the weights and wraps the features.

    Args:
        variant: How to convert.
        architecture: What to convert.
        pretrained: Whether to load weights: the base network's, ours, or the authors'.
        conversion: What `lp_convert` noted on a network of the user's, for `lp` and `large`.
        merged: Whether to fold the masks into plain convolutions, as `lp_merge` does.
        cropped: The kernels that it cropped: `(Kh, Kw)`, pixels, by layer.
        **kwargs: The variant's options (`p_init`, `trainable_mask`, `preserve`, `lp_layers`), and what timm takes.

    Raises:
        TypeError: If an option of `lp_convert` is given that this variant fixes.
        ValueError: If `conversion`, `merged` or `cropped` are no notes, or do not fit the network, or this is no
            convolutional network.
    """
    name = f"{variant.prefix}_{architecture.name}"
    options = {key: kwargs.pop(key) for key in _ALL_OPTIONS & kwargs.keys()}
    free = variant.options if conversion is None else frozenset()
    fixed = sorted(options.keys() - free)
    if fixed:
        allowed = ", ".join(sorted(variant.options))
        by = "This variant" if conversion is None else "`conversion`"
        raise TypeError(
            f"`{fixed[0]}` must not be given to {name}, got {options[fixed[0]]!r}. {by} fixes it (its options: "
            f"{allowed}); lp_{architecture.name} takes all of them."
        )
    _check_merged(merged, cropped)
    arguments = {"kernel_scale": architecture.kernel_scale, **variant.conversion, **options}
    layers = None
    if conversion is not None:
        layers, noted = read_conversion(conversion)
        if variant.masked != noted["masked"] or (variant.masked and "p_init" not in variant.options):
            fitting = f"{'lp' if noted['masked'] else 'large'}_{architecture.name}"
            raise ValueError(f"`conversion` must be given to the network that it is of, {fitting}, got {name}.")
        arguments |= noted

    converted: list[str] = []

    def convert(network: nn.Module) -> nn.Module:
        if layers is None:
            _check_convolutional(network, architecture.name)
        filter_fn = None if layers is None else filter_of_layers(layers, network)
        network, converted[:] = swap_convs(network, filter_fn, **arguments)
        return _merged(network, cropped or {}) if merged else network

    model = build_form(
        architecture.name,
        name,
        convert,
        partial(
            checkpoint_filter_fn,
            kernel_scale=arguments["kernel_scale"],
            preserve=arguments.get("preserve", True),
            converted=converted,
        ),
        architecture.rename,
        pretrained=pretrained,
        **kwargs,
    )
    if variant.masked and not merged:
        spare_masks_from_weight_decay(model)  # timm's wrappers for features lack what the network has
    return model


def _check_merged(merged: Any, cropped: Any) -> None:
    """Refuse what `lp_merge` notes on no network."""
    if not isinstance(merged, bool):
        raise ValueError(f"`merged` must be true or false, got {reprlib.repr(merged)}.")
    if not cropped:
        return
    is_noted = isinstance(cropped, Mapping) and all(
        isinstance(size, (list, tuple)) and [*map(type, size)] == [int, int] for size in cropped.values()
    )
    if not merged or not is_noted:
        raise ValueError(
            "`cropped` must be the two sides, pixels, of kernels of a merged network, by layer, got "
            f"{reprlib.repr(cropped)}{'' if merged else ', and it is not merged'}."
        )


def _merged(network: nn.Module, cropped: Mapping[str, Sequence[int]]) -> nn.Module:
    """Return a network in the form that `lp_merge` gave another of its kind, whose weights are loaded next."""
    network = lp_merge(network.eval()).train()
    convs = {fqn: module for fqn, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    for fqn, kernel_size in cropped.items():
        if fqn not in convs:
            raise ValueError(f"`cropped` must name convolutions of {type(network).__name__}, got {reprlib.repr(fqn)}.")
        network.set_submodule(fqn, crop_conv2d_to(convs[fqn], tuple(kernel_size)))
    return network


def _check_convolutional(network: nn.Module, name: str) -> None:
    """Refuse a network without convolutions, or with none but those that cut images into patches."""
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if all(conv.kernel_size == conv.stride != (1, 1) for conv in convs):
        cut = ", whose only convolutions cut images into patches" if convs else " without convolutions"
        raise ValueError(
            f"`model_name` must be a variant of a convolutional network, got one of {name}{cut}. "
            "timm_lp.lp_convert converts single layers of any network."
        )


def _default_cfg(base: str) -> DefaultCfg | None:
    """Return timm's configurations of a base network, which say where its weights are, tag by tag."""
    cfgs = get_arch_pretrained_cfgs(base)
    by_tag = {cfg.tag or "": replace(cfg, architecture=None, tag=None, paper_name=_PAPER) for cfg in cfgs.values()}
    if not by_tag:  # as of a network that the user registered
        return None
    return DefaultCfg(tags=deque(by_tag), cfgs=by_tag, is_pretrained=any(cfg.has_weights for cfg in by_tag.values()))


def _entrypoint(variant: Variant, architecture: Architecture) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_variant(variant, architecture, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = f"{variant.prefix}_{architecture.name}"
    create.__doc__ = f"{architecture.name} with {variant.summary}."
    return create


__all__ = ["ARCHITECTURES", "FORM_ARGUMENTS", "create_variant"]

default_cfgs: dict[str, DefaultCfg] = {}


def _register(variant: Variant, architecture: Architecture, default_cfg: DefaultCfg | None) -> Callable[..., nn.Module]:
    create = _entrypoint(variant, architecture)
    if default_cfg is not None:
        default_cfgs[create.__name__] = default_cfg
    return register_model(create)


def _register_name(name: str) -> None:
    """Register a variant of any network that timm knows, if the name is one."""
    base, prefix = split_name(name)
    if prefix == BASE or not is_model(base) or base in get_deprecated_models():
        return
    if model_entrypoint(base).__module__ != __name__:
        variant = next(variant for variant in VARIANTS if variant.prefix == prefix)
        _register(variant, Architecture(base), _default_cfg(base))


def __getattr__(name: str) -> Any:
    """Return the entry of any network's variant, as the attributes of this module are those of the paper's networks."""
    if is_model(name) and (entry := model_entrypoint(name)).__module__ == __name__:
        return entry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


for _architecture in ARCHITECTURES:
    _cfg = _default_cfg(_architecture.name)
    for _variant in VARIANTS:
        _create = _register(_variant, _architecture, _cfg)
        globals()[_create.__name__] = _create

register_when_asked(_register_name)
check_what_timm_saves()
