"""The network that a variant starts from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.models import load_state_dict, split_model_name_tag
from torch import nn

from ..command import first_line
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


def check_variant(config: FewShotConfig, variant: str, num_images: int = 2) -> None:
    """Refuse a variant that cannot be trained with the settings: build and run it without memory.

    Args:
        config: Settings.
        variant: Name of the variant.
        num_images: Images over which its BatchNorm layers average.

    Raises:
        ValueError: If there is no such model or variant, no kernel that it would start at random, or the network does
            not take `config`'s arguments, its image size, or a single image at a time.
    """
    num_images = min(num_images, 2)  # more are no other case, and too many overflow
    with torch.device("meta"):
        network = create_network(replace(config, pretrained=False, checkpoint=None), variant, num_classes=2)
        size = preprocessing(config, network)["input_size"]
        try:
            network.train()(torch.empty(num_images, *size))
        except Exception as error:  # whatever its code stumbles over
            raise ValueError(
                f"`img_size`, `batch_size` and `model_kwargs` must fit {variant} of {config.model}, got "
                f"{size[1]}x{size[2]} pixels: {_reason(error)}"
            ) from error


def check_checkpoint(config: FewShotConfig, num_classes: int) -> None:
    """Refuse a checkpoint that a variant cannot start from, before anything is trained.

    Raises:
        ValueError: If there is no such file, it does not hold weights, or they are another network's.
    """
    if config.checkpoint is None:
        return
    if not Path(config.checkpoint).is_file():
        raise ValueError(f"`checkpoint` must be a file, got {config.checkpoint!r}.")
    try:
        weights = load_state_dict(config.checkpoint)
        readable = all(isinstance(weight, torch.Tensor) for weight in weights.values())
    except OSError:
        raise
    except Exception:  # whatever the readers of zip archives, pickles and safetensors stumble over
        readable = False
    if not readable:
        raise ValueError(
            f"`checkpoint` must be a file of weights that torch or safetensors saved, got {config.checkpoint!r}. It is "
            "damaged, or holds other things."
        )
    for variant in config.variants:
        create_network(config, variant, num_classes)


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
        if variant == BASE and config.checkpoint is not None:
            # With another number of classes timm takes any file for its own networks; our filter refuses what does
            # not fit.
            with torch.device("meta"):
                empty = timm.create_model(named.model, pretrained_cfg_overlay=overlay, **arguments)
            checkpoint_filter_fn(load_state_dict(config.checkpoint), empty, kernel_scale=1)
        model = timm.create_model(
            named.model,
            pretrained=config.pretrained or overlay is not None,
            pretrained_cfg_overlay=overlay,
            **arguments,
            **named.options,
        )
    except Exception as error:  # whatever timm's networks stumble over when an argument does not fit
        raise ValueError(
            f"`model`, `model_kwargs`, `drop_path_rate`, `pretrained` and `checkpoint` must fit {named.model}, "
            f"got {_reason(error)}"
        ) from error
    if named.reinit:
        with torch.device("meta"):
            small = timm.create_model(config.model, **arguments)
        _reinitialize(model, small)
    return model


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def preprocessing(config: FewShotConfig, network: nn.Module) -> dict[str, Any]:
    """Return the network's own preprocessing with what the settings change of it, as timm's transforms take it."""
    overrides = {"img_size": config.img_size, "crop_pct": config.crop_pct}
    return resolve_data_config({key: value for key, value in overrides.items() if value is not None}, model=network)


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
