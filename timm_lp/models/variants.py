"""The variants of a network that the paper compares: one table, and the one parser of their names."""

from dataclasses import dataclass
from typing import Any

from timm.models import is_model, split_model_name_tag

BASE = "base"  # the network as it is
PAPER = "-paper"  # behind a variant with masks: they damp the base network's kernels, as in the paper
REINIT = "-reinit"  # behind "large": the enlarged kernels start at random


@dataclass(frozen=True)
class Variant:
    """A way to convert a network.

    Attributes:
        prefix: What it puts in front of the base network's name.
        summary: What it is, in words.
        conversion: Arguments of `lp_convert`.
        options: Further arguments of `lp_convert` that the caller may set.
    """

    prefix: str
    summary: str
    conversion: dict[str, Any]
    options: frozenset[str] = frozenset()

    @property
    def masked(self) -> bool:
        """Whether its kernels have masks."""
        return self.conversion.get("masked", True)


_MASK_OPTIONS = frozenset({"trainable_mask", "preserve"})

VARIANTS = (
    Variant("large", "large kernels without masks", {"masked": False}),
    *(
        Variant(f"lp{p}", f"Lp-convolution, p starting at {p}", {"p_init": float(p)}, _MASK_OPTIONS)
        for p in (2, 4, 8, 16)
    ),
    Variant(
        "lp256f",
        "Lp-convolution, p = 256 and the masks frozen (the dagger of Table 1)",
        {"p_init": 256.0, "trainable_mask": False},
        frozenset({"preserve"}),
    ),
    Variant("lp", "Lp-convolution, p from `p_init`", {"p_init": 2.0}, _MASK_OPTIONS | {"p_init"}),
)


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
            enlarged kernels start at random.

    Raises:
        ValueError: If there is no such model or variant.
    """
    prefix = variant_prefix(variant)
    masked = {known.prefix: known.masked for known in VARIANTS}
    name = model if prefix == BASE else f"{prefix}_{model}"
    damped, reinit = variant == prefix + PAPER, variant == prefix + REINIT
    known = (prefix == BASE or prefix in masked) and is_model(split_model_name_tag(name)[0])
    if not known or (damped and not masked.get(prefix)) or (reinit and masked.get(prefix) is not False):
        raise ValueError(
            f"`model` and `variants` must name registered models, got {variant!r} of {model!r}. {_advice(model)}"
        )
    return NamedVariant(name, {"preserve": False} if damped else {}, reinit)


def variant_prefix(variant: str) -> str:
    """Return what a variant puts in front of the base network's name, `"base"` where that is nothing."""
    return variant.removesuffix(PAPER).removesuffix(REINIT)


def variant_order(variant: str) -> tuple[int, str]:
    """Return a sort key that puts variants in the order of the table, after the base network; unknown ones last."""
    order = [BASE, *(known.prefix for known in VARIANTS)]
    prefix = variant_prefix(variant)
    return (order.index(prefix) if prefix in order else len(order), variant)


def _advice(model: str) -> str:
    base, _ = split_model_name_tag(model)
    prefixes = [variant.prefix for variant in VARIANTS if is_model(f"{variant.prefix}_{base}")]
    forms = [BASE] * is_model(base) + prefixes + [f"large{REINIT}"] * bool(prefixes)
    return f"Variants of {base}: {', '.join(forms) or 'none, it is unknown'}; those with masks also with {PAPER}."
