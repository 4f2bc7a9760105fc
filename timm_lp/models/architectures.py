"""The base networks of the paper, and what is needed to build converted ones from them."""

from dataclasses import dataclass, field
from typing import Any

from .alexnet import rename_torchvision as rename_torchvision_alexnet
from .checkpoint import RenameFn, rename_torchvision_convnext, rename_torchvision_vgg
from .replknet import rename_original as rename_original_replknet

_FOUR_STAGES = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}


@dataclass(frozen=True)
class Architecture:
    """A base network.

    Attributes:
        name: Its name in timm's registry.
        kernel_scale: 2 for the paper's larger kernels, 1 where it keeps them.
        feature_cfg: How timm wraps it for `features_only`, as in timm's own entry.
        rename: Gives the names of the authors' checkpoints timm's form.
    """

    name: str
    kernel_scale: int = 2
    feature_cfg: dict[str, Any] = field(default_factory=dict)
    rename: RenameFn | None = None


BASES = (
    Architecture("alexnet", feature_cfg=_FOUR_STAGES, rename=rename_torchvision_alexnet),
    Architecture(
        "vgg16",
        feature_cfg={"out_indices": (0, 1, 2, 3, 4, 5), "flatten_sequential": True},
        rename=rename_torchvision_vgg,
    ),
    Architecture("resnet18"),
    Architecture("resnet34"),
    Architecture("resnet50"),
    Architecture("resnext50_32x4d"),
    Architecture("densenet121", feature_cfg={"flatten_sequential": True}),
    Architecture("convnext_tiny", feature_cfg=_FOUR_STAGES, rename=rename_torchvision_convnext),
    Architecture("convnextv2_tiny", feature_cfg=_FOUR_STAGES),
    Architecture("replknet31", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet31_base", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet31_large", 1, _FOUR_STAGES, rename_original_replknet),
    Architecture("replknet_xl", 1, _FOUR_STAGES, rename_original_replknet),
)
