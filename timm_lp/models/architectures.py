"""The base networks of the paper, and what is needed to build converted ones from them."""

from dataclasses import dataclass

from .alexnet import rename_torchvision as rename_torchvision_alexnet
from .checkpoint import RenameFn, rename_torchvision_convnext, rename_torchvision_vgg
from .replknet import rename_original as rename_original_replknet


@dataclass(frozen=True)
class Architecture:
    """A base network.

    Attributes:
        name: Its name in timm's registry.
        kernel_scale: 2 for the paper's larger kernels, 1 where it keeps them.
        rename: Gives the names of the authors' checkpoints timm's form.
    """

    name: str
    kernel_scale: int = 2
    rename: RenameFn | None = None


BASES = (
    Architecture("alexnet", rename=rename_torchvision_alexnet),
    Architecture("vgg16", rename=rename_torchvision_vgg),
    *map(Architecture, ("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "densenet121")),
    Architecture("convnext_tiny", rename=rename_torchvision_convnext),
    Architecture("convnextv2_tiny"),
    *(
        Architecture(name, 1, rename_original_replknet)
        for name in ("replknet31", "replknet31_base", "replknet31_large", "replknet_xl")
    ),
)
