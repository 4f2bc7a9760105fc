"""The variants of a network that the paper compares: one table, which imports neither torch nor timm."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BASE = "base"  # the network as it is
PAPER = "-paper"  # behind a variant with masks: they damp the base network's kernels, as in the paper
REINIT = "-reinit"  # behind "large": the enlarged kernels start at random
PUBLISHED = "-published"  # behind a variant of the Sudoku network: its kernels start as those of the authors' code
PART = "@"  # behind a variant, before the only layers that it converts: lp2@layer1,layer2
DEPTHWISE = "depthwise"  # in place of a layer's name: all depthwise convolutions


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


_OPTIONS = frozenset({"lp_layers"})
_MASK_OPTIONS = _OPTIONS | {"trainable_mask", "preserve"}

VARIANTS = (
    Variant("large", "large kernels without masks", {"masked": False}, _OPTIONS),
    *(
        Variant(f"lp{p}", f"Lp-convolution, p starting at {p}", {"p_init": float(p)}, _MASK_OPTIONS)
        for p in (2, 4, 8, 16)
    ),
    Variant(
        "lp256f",
        "Lp-convolution, p = 256 and the masks frozen (the dagger of Table 1)",
        {"p_init": 256.0, "trainable_mask": False},
        _OPTIONS | {"preserve"},
    ),
    Variant("lp", "Lp-convolution, p from `p_init`", {"p_init": 2.0}, _MASK_OPTIONS | {"p_init"}),
)

SUDOKU_INPUTS = ("scalar", "one-hot")
SUDOKU_CONVERSIONS = {variant.prefix: variant for variant in VARIANTS if "p_init" not in variant.options}
SUDOKU_VARIANTS = (
    BASE,
    *(
        prefix + suffix
        for prefix, variant in SUDOKU_CONVERSIONS.items()
        for suffix in (("", PAPER, PUBLISHED) if variant.masked else ("", REINIT, PUBLISHED))
    ),
)


def variant_prefix(variant: str) -> str:
    """Return what a variant puts in front of the base network's name, `"base"` where that is nothing."""
    return variant.partition(PART)[0].removesuffix(PAPER).removesuffix(REINIT).removesuffix(PUBLISHED)


def with_layers(variant: str, lp_layers: Iterable[str]) -> str:
    """Return the variant that converts some layers alone: `lp2@layer1,layer2`.

    Args:
        variant: A variant; the base network, and one that names layers already, stay.
        lp_layers: Patterns of the layers' names, as `lp_convert` takes them, in any order; none for all layers.
    """
    patterns = sorted({*lp_layers})
    return f"{variant}{PART}{','.join(patterns)}" if patterns and variant != BASE and PART not in variant else variant


def split_layers(variant: str) -> tuple[str, list[str]]:
    """Return a variant without the layers that it names, and the patterns of their names; none for all layers."""
    whole, part, patterns = variant.partition(PART)
    return whole, patterns.split(",") if part else []


def variant_order(variant: str) -> tuple[int, str]:
    """Return a sort key that puts variants in the order of the table, after the base network; unknown ones last."""
    order = [BASE, *(known.prefix for known in VARIANTS)]
    prefix = variant_prefix(variant)
    return (order.index(prefix) if prefix in order else len(order), variant)
