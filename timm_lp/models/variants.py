"""The one parser of the names of variants, for timm's registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.models import is_model, split_model_name_tag

from ..variants import BASE, PAPER, REINIT, VARIANTS, split_layers, variant_prefix, with_layers


@dataclass(frozen=True)
class NamedVariant:
    """What a variant's name means for a base network.

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
            enlarged kernels start at random. Behind each but the first, `@` and patterns of the names of the only
            layers that it converts: `lp2@layer1,layer2`.

    Raises:
        ValueError: If there is no such model or variant.
    """
    prefix, (whole, lp_layers) = variant_prefix(variant), split_layers(variant)
    masked = {known.prefix: known.masked for known in VARIANTS}
    name = model if prefix == BASE else f"{prefix}_{model}"
    damped, reinit = whole == prefix + PAPER, whole == prefix + REINIT
    known = (variant == BASE or prefix in masked) and is_model(split_model_name_tag(name)[0])
    if not known or (damped and not masked.get(prefix)) or (reinit and masked.get(prefix) is not False):
        raise ValueError(
            f"`model` and `variants` must name registered models, got {variant!r} of {model!r}. {_advice(model)}"
        )
    options = {**({"preserve": False} if damped else {}), **({"lp_layers": lp_layers} if lp_layers else {})}
    return NamedVariant(name, options, reinit)


def split_name(name: str, arguments: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Return the base network and the variant that a registered name stands for: `resnet18` and `lp2`.

    Args:
        name: The name, with or without a tag, which stays with the base network's.
        arguments: Those that the network was made with, which may name the layers that the variant converts.
    """
    prefix, _, model = name.partition("_")
    if not any(prefix == known.prefix for known in VARIANTS):
        return name, BASE
    return model, with_layers(prefix, (arguments or {}).get("lp_layers") or ())


def _advice(model: str) -> str:
    base, _ = split_model_name_tag(model)
    prefixes = [variant.prefix for variant in VARIANTS if is_model(f"{variant.prefix}_{base}")]
    forms = [BASE] * is_model(base) + prefixes + [f"large{REINIT}"] * bool(prefixes)
    return f"Variants of {base}: {', '.join(forms) or 'none, it is unknown'}; those with masks also with {PAPER}."
