"""The network that a variant starts from."""

from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from timm.models import load_state_dict, split_model_name_tag
from torch import nn

from ..models.checkpoint import checkpoint_filter_fn
from .config import BASE, FewShotConfig

_PAPER, _REINIT = "-paper", "-reinit"
_ORDER = (BASE, "large", "large-reinit", "lp2", "lp4", "lp8", "lp16", "lp256f", "lp")


@dataclass(frozen=True)
class NamedVariant:
    """What a variant's name means.

    Attributes:
        model: Registered name of the network.
        options: Arguments of the conversion.
        reinit: Whether the enlarged kernels start at random instead of at the base network's.
    """

    model: str
    options: dict[str, Any]
    reinit: bool = False


def parse_variant(model: str, variant: str) -> NamedVariant:
    """Return what a variant of a base network is.

    Args:
        model: The base network's name, with or without a tag.
        variant: `"base"`; the prefix of a registered variant, which starts as the base network's function; a masked
            one's with `-paper`, where the masks damp the base network's kernels; or `"large-reinit"`, where the
            enlarged kernels start at random.

    Raises:
        ValueError: If there is no such model or variant.
    """
    prefix = variant_prefix(variant)
    name = model if prefix == BASE else f"{prefix}_{model}"
    damped, reinit = variant == prefix + _PAPER, variant == prefix + _REINIT
    known = timm.is_model(split_model_name_tag(name)[0])
    if not known or (damped and not prefix.startswith("lp")) or (reinit and prefix != "large"):
        base, _ = split_model_name_tag(model)
        prefixes = [known.removesuffix(f"_{base}") for known in timm.list_models(f"*_{base}", module="lp_models")]
        forms = [BASE] * timm.is_model(base) + prefixes + ["large-reinit"] * bool(prefixes)
        raise ValueError(
            f"`model` and `variants` must name registered models, got {variant!r} of {model!r}. "
            f"Variants of {base}: {', '.join(forms) or 'none, it is unknown'}; those with masks also with {_PAPER}."
        )
    return NamedVariant(name, {"preserve": False} if damped else {}, reinit)


def variant_prefix(variant: str) -> str:
    """Return what a variant puts in front of the base network's name, `"base"` where that is nothing."""
    return variant.removesuffix(_PAPER).removesuffix(_REINIT)


def variant_order(variant: str) -> tuple[int, str]:
    """Return a sort key that puts variants in the order of the paper's Table 4."""
    prefix = variant.removesuffix(_PAPER)
    return (_ORDER.index(prefix) if prefix in _ORDER else len(_ORDER), variant)


def check_variant(config: FewShotConfig, variant: str) -> None:
    """Refuse a variant that the base network does not have, before anything is loaded.

    Raises:
        ValueError: If there is no such model or variant, or no kernel that it would start at random.
    """
    if parse_variant(config.model, variant).reinit:
        with torch.device("meta"):
            create_network(replace(config, pretrained=False, checkpoint=None), variant, num_classes=1)


def create_network(config: FewShotConfig, variant: str, num_classes: int) -> nn.Module:
    """Return the network that a trial of `variant` starts from.

    Raises:
        ValueError: If the network does not take `config`'s arguments, or `config.checkpoint` does not fit it.
    """
    named = parse_variant(config.model, variant)
    overlay = {"file": config.checkpoint} if config.checkpoint else None
    rates: dict[str, Any] = {} if config.drop_path_rate is None else {"drop_path_rate": config.drop_path_rate}
    arguments = {"num_classes": num_classes, **rates, **config.model_kwargs}
    try:
        model = timm.create_model(
            named.model,
            pretrained=config.pretrained or overlay is not None,
            pretrained_cfg_overlay=overlay,
            **arguments,
            **named.options,
        )
        if variant == BASE and config.checkpoint is not None:
            # With another number of classes timm takes any file for its own networks; our filter refuses what does
            # not fit.
            checkpoint_filter_fn(load_state_dict(config.checkpoint), model, kernel_scale=1)
        if named.reinit:
            with torch.device("meta"):
                small = timm.create_model(config.model, **arguments)
            _reinitialize(model, small)
    except (TypeError, RuntimeError, OSError) as error:
        raise ValueError(
            f"`model`, `model_kwargs`, `drop_path_rate`, `pretrained` and `checkpoint` must fit {named.model}, "
            f"got {error}"
        ) from error
    return model


def _reinitialize(model: nn.Module, small: nn.Module) -> None:
    """Give the convolutions that are larger than those of `small` torch's random weights."""
    sizes = {name: module.weight.shape for name, module in small.named_modules() if isinstance(module, nn.Conv2d)}
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    enlarged = [conv for name, conv in convs.items() if conv.weight.shape != sizes.get(name)]
    if not enlarged:
        raise ValueError(
            f"`variants` must not name large-reinit for {type(small).__name__}, got it. Its kernels are not enlarged."
        )
    for conv in enlarged:
        conv.reset_parameters()
