"""Base networks for images of 32 pixels: their first convolution is 3x3 with stride 1, as the authors have it (A.9).

Only the first convolution differs: ResNets keep their max-pool, as in the authors' code. The stem is there before the
conversion, so that every variant has it, and a saved network is built with it again.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

from timm.models import generate_default_cfgs, get_pretrained_cfg, register_model
from torch import Tensor, nn

from .architectures import BASES
from .building import build_form

_logger = logging.getLogger(__name__)

_SIZE = 32  # pixels
_DEEPEST_STRIDE = 32  # that timm's ResNets take, counted from their own stem

_draw_resnet = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
# How each base network draws the weights of its convolutions; AlexNet leaves them as nn.Conv2d draws them.
_DRAW: dict[str, Callable[[Tensor], Any]] = {
    "alexnet": lambda weight: weight,
    "resnet18": _draw_resnet,
    "resnet34": _draw_resnet,
    "resnet50": _draw_resnet,
    "resnext50_32x4d": _draw_resnet,
    "densenet121": nn.init.kaiming_normal_,
}
_KEPT = "the authors' code has no other stem for it"
_REASONS = {
    "vgg16": "its first convolution has stride 1",
    "convnext_tiny": _KEPT,
    "convnextv2_tiny": _KEPT,
    "replknet31": _KEPT,
}


# The form with a small stem of each base network that has one, by the base network's name.
SMALL_STEMS = {base.name: replace(base, name=f"{base.name}_small_stem") for base in BASES if base.name in _DRAW}


@cache  # so that the log says once why a network keeps its stem
def with_small_stem(name: str) -> str:
    """Return the name of a base network's form for images of 32 pixels.

    Args:
        name: The base network's name.

    Returns:
        The registered name of its form with a small stem; `name` itself where it is such a form, or where the network
        needs none, for a reason that the log gives.

    Raises:
        ValueError: If there is no such base network, or no form of it with a small stem.
    """
    if name in SMALL_STEMS:
        return SMALL_STEMS[name].name
    reasons = {**_REASONS, **{small.name: "it is a small one" for small in SMALL_STEMS.values()}}
    if name not in reasons:
        raise ValueError(
            f"`name` must be one of {', '.join([*SMALL_STEMS, *reasons])}, got {name!r}. Other networks have no form "
            "with a small stem; give neither a prefix, since variants are made of the base network, nor a tag, since "
            "no weights fit another stem."
        )
    _logger.info("%s keeps its stem: %s.", name, reasons[name])
    return name


def create_small_stem(base: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build a base network with a small stem by timm's entry of it.

    Args:
        base: The base network's name, a key of `SMALL_STEMS`.
        pretrained: Whether to load weights; timm refuses where a `pretrained_cfg` or its overlay names none.
        **kwargs: What timm takes for the base network, except for another stem. A ResNet's `output_stride` is the
            stride that it has with the small stem.

    Raises:
        TypeError: If `stem_type` is given.
    """
    small = SMALL_STEMS[base]
    if kwargs.get("stem_type"):
        raise TypeError(
            f"`stem_type` must not be given to {small.name}, got {kwargs['stem_type']!r}. Its stem is one 3x3 "
            f"convolution; {base} takes other stems."
        )
    if "output_stride" in kwargs:
        kwargs["output_stride"] = min(2 * kwargs["output_stride"], _DEEPEST_STRIDE)

    return build_form(
        base, small.name, lambda model: _replace_stem(model, _DRAW[base]), pretrained=pretrained, **kwargs
    )


def _replace_stem(model: Any, draw: Callable[[Tensor], Any]) -> nn.Module:
    """Put the small stem into a base network, and let its features know that they are larger."""
    name = model.pretrained_cfg["first_conv"]
    old = model.get_submodule(name)
    stem = nn.Conv2d(
        old.in_channels,
        old.out_channels,
        kernel_size=3,
        padding=1,
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    draw(stem.weight)
    model.set_submodule(name, stem)
    for info in model.feature_info:
        info["reduction"] //= old.stride[0]
    return model


def _cfg(base: str) -> dict[str, Any]:
    """Return the configuration for images of 32 pixels, with the layers' names of the base network's."""
    cfg: Any = get_pretrained_cfg(base)
    sizes = {"alexnet": {"pool_size": (3, 3), "min_input_size": (3, 15, 15)}}
    return {
        "num_classes": cfg.num_classes,
        "input_size": (3, _SIZE, _SIZE),
        "pool_size": (2, 2),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "first_conv": cfg.first_conv,
        "classifier": cfg.classifier,
        **sizes.get(base, {}),
    }


def _entrypoint(base: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_small_stem(base, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = SMALL_STEMS[base].name
    create.__doc__ = f"{base} with a 3x3 convolution of stride 1 as its stem, for images of {_SIZE} pixels."
    return create


__all__ = ["SMALL_STEMS", "create_small_stem", "with_small_stem"]

default_cfgs = generate_default_cfgs({small.name: _cfg(base) for base, small in SMALL_STEMS.items()})

for _base in SMALL_STEMS:
    _create = _entrypoint(_base)
    globals()[_create.__name__] = register_model(_create)
