"""Create the network that a variant starts from, and check that the settings fit it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from torch import nn

from ...command import first_line
from ...models.checkpoint import checkpoint_filter_fn, read_weights, without_prefix
from ...models.loading import UnreachableError, check_reach, create_model
from ...models.user_networks import registered_name
from ...models.variants import NamedVariant, parse_variant
from ...selection import NoSuchLayerError, feature_extractor_filter
from ...variants import BASE
from .config import FinetuneConfig
from .optimizer import create_optimizer

_ADVICE = "give --no-pretrained, or --checkpoint with a file of yours"


def check_variant(config: FinetuneConfig, model: str, variant: str, num_images: int = 2) -> None:
    """Refuse a variant that cannot be trained with the settings: build and run it without memory.

    Args:
        config: Settings.
        model: The base network.
        variant: Name of the variant.
        num_images: Images over which its BatchNorm layers average.

    Raises:
        ValueError: If there is no such model, variant or optimizer, no weights to start from, no kernel that the
            variant would start at random, or the network does not take `config`'s arguments, its image size, or a
            single image at a time, or does not return a number for each class.
    """
    num_images = min(num_images, 2)  # more are no other case, and too many overflow
    with torch.device("meta"):
        network = create_network(replace(config, pretrained=False, checkpoint=None), model, variant, num_classes=2)
        _check_weights(config, _named(model, variant).model)
        create_optimizer(config, network)
        size = preprocessing(config, network)["input_size"]
        try:
            logits = network.train()(torch.empty(num_images, *size))
        except Exception as error:  # a network's code may raise anything
            raise ValueError(
                f"`img_size`, `batch_size` and `model_kwargs` must fit {variant} of {model}, got "
                f"{size[1]}x{size[2]} pixels: {_reason(error)}"
            ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (num_images, 2):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(
            f"`model` must return a number for each class, ({num_images}, 2) for {num_images} images and 2 classes, "
            f"got {shape} from {variant} of {model}. Write a class that does."
        )


def _check_weights(config: FinetuneConfig, name: str) -> None:
    cfg = timm.get_pretrained_cfg(name)
    if config.pretrained and config.checkpoint is None and not (cfg and cfg.has_weights):
        raise ValueError(f"`pretrained` must be off for {name}, got it on. No weights are known for it: {_ADVICE}.")


def check_start(config: FinetuneConfig, model: str, variant: str) -> None:
    """Refuse to start from timm's weights if they cannot be had, before anything is trained.

    Raises:
        OSError: If they are neither cached nor within reach.
    """
    if config.pretrained and config.checkpoint is None:
        check_reach(_named(model, variant).model, advice=_ADVICE)


def smallest_map(config: FinetuneConfig, model: str) -> tuple[int, ...] | None:
    """Return the height and width, pixels, of the smallest map that a convolution of a base network's features sees.

    None if the network has no `forward_features`, and so does not tell its features from its classifier.

    Args:
        config: Settings, with the size of the images.
        model: The base network.
    """
    with torch.device("meta"):
        network: Any = create_network(replace(config, pretrained=False, checkpoint=None), model, BASE, num_classes=2)
        if not hasattr(network, "forward_features"):
            return None
        is_feature, sizes = feature_extractor_filter(network), []
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d) and is_feature(module, name):
                module.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
        network.eval().forward_features(torch.empty(1, *preprocessing(config, network)["input_size"]))
    return min(sizes, key=math.prod, default=None)


def check_checkpoint(config: FinetuneConfig, model: str, num_classes: int) -> None:
    """Refuse a checkpoint that a variant cannot start from, before anything is trained.

    Raises:
        ValueError: If there is no such file, it does not hold weights, or they are another network's.
    """
    if config.checkpoint is None:
        return
    if not Path(config.checkpoint).is_file():
        raise ValueError(f"`checkpoint` must be a file, got {config.checkpoint!r}.")
    for variant in config.variants:
        create_network(config, model, variant, num_classes)


def create_network(config: FinetuneConfig, model: str, variant: str, num_classes: int) -> nn.Module:
    """Return the network that a trial of a base network's variant starts from.

    Raises:
        ValueError: If the network does not take `config`'s arguments, or `config.checkpoint` does not fit it.
        OSError: If its weights are neither cached nor within reach.
    """
    named = _named(model, variant)
    arguments = {"num_classes": num_classes, **config.network_arguments, **config.kwargs_of(model)}
    weights = None if config.checkpoint is None else read_weights(config.checkpoint)
    overlay: dict[str, Any] | None = None
    try:
        if weights is not None and config.checkpoint is not None:
            with torch.device("meta"):
                empty = timm.create_model(named.model, **arguments, **named.options)
            weights = without_prefix(weights, empty.state_dict(), config.checkpoint)
            overlay = {"file": config.checkpoint, "state_dict": weights}
            if variant == BASE:
                # With another number of classes timm takes any weights for its own networks; our filter refuses what
                # does not fit.
                checkpoint_filter_fn(weights, empty, kernel_scale=1)
        network: Any = create_model(
            named.model,
            advice=_ADVICE,
            pretrained=config.pretrained or overlay is not None,
            pretrained_cfg_overlay=overlay,
            **arguments,
            **named.options,
        )
    except (NoSuchLayerError, UnreachableError):
        raise
    except Exception as error:  # timm's networks raise anything when an argument does not fit
        names = ", ".join(f"`{name}`" for name in ("model", "model_kwargs", *config.network_arguments, "pretrained"))
        raise ValueError(f"{names} and `checkpoint` must fit {named.model}, got {_reason(error)}") from error
    if overlay is not None:
        network.pretrained_cfg = {**network.pretrained_cfg, "state_dict": None}  # the file says where they are from
    if named.reinit:
        with torch.device("meta"):
            small = timm.create_model(_named(model, BASE).model, **arguments)
        _reinitialize(network, small)
    return network


def _named(model: str, variant: str) -> NamedVariant:
    return parse_variant(registered_name(model), variant)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def preprocessing(config: FinetuneConfig, network: nn.Module) -> dict[str, Any]:
    """Return the network's preprocessing with the changes of the settings, as timm's transforms take it."""
    overrides = {"img_size": config.img_size, "crop_pct": config.crop_pct}
    return resolve_data_config({key: value for key, value in overrides.items() if value is not None}, model=network)


def _reinitialize(network: nn.Module, small: nn.Module) -> None:
    """Give torch's random weights to the convolutions that are larger than those of `small`."""
    sizes = {name: module.weight.shape for name, module in small.named_modules() if isinstance(module, nn.Conv2d)}
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    enlarged = [conv for name, conv in convs.items() if conv.weight.shape != sizes.get(name)]
    if not enlarged:
        raise ValueError(
            f"`variants` must not name large-reinit for {type(small).__name__}, got it. Its kernels are not enlarged."
        )
    for conv in enlarged:
        conv.reset_parameters()
