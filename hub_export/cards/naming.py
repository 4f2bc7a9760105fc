"""Take a registered model's name apart."""

from dataclasses import dataclass

from timm.models import model_entrypoint

from timm_lp.models import ARCHITECTURES
from timm_lp.models.variants import BASE, VARIANTS

BASE_SUMMARY = "the network as it is"


@dataclass(frozen=True)
class ModelName:
    """A registered name.

    Attributes:
        name: The whole, `lp2_resnet18` for instance.
        variant: Its prefix, `lp2`, or `base` where it has none.
        architecture: The base network, `resnet18`.
        enlarged: Whether the variants have larger kernels than the base network.
        frozen: Whether the variant's masks are never trained.
        summary: What the variant is, in words.
    """

    name: str
    variant: str
    architecture: str
    enlarged: bool
    frozen: bool
    summary: str


def parse_name(name: str) -> ModelName:
    """Take a registered model's name apart.

    Args:
        name: The name, without a tag.

    Raises:
        ValueError: If neither we nor the base networks of ours have such a name.
    """
    for architecture in ARCHITECTURES:
        enlarged = architecture.kernel_scale > 1
        if name == architecture.name:
            return ModelName(name, BASE, architecture.name, enlarged, False, BASE_SUMMARY)
        for variant in VARIANTS:
            if name == f"{variant.prefix}_{architecture.name}":
                frozen = variant.conversion.get("trainable_mask") is False
                return ModelName(name, variant.prefix, architecture.name, enlarged, frozen, variant.summary)
    raise ValueError(
        f"`model` must be one of timm_lp's registered models or their base networks, got {name!r}. "
        "timm.list_models('lp*') lists them."
    )


def is_ours(name: str) -> bool:
    """Tell whether timm has a registered model from this package."""
    return model_entrypoint(name).__module__.startswith("timm_lp.")
