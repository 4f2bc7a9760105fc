"""The networks and single layers that are measured, each in several forms: without masks, with masks, merged."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import timm
import torch
from torch import Tensor, nn

from ..convert import lp_merge
from ..layers import LpConv2d

_PERTURBATION = 0.05


@dataclass(frozen=True)
class Network:
    """A network at one input size.

    Attributes:
        prefix: Prefix of the Lp network's name.
        arch: Name of its base network.
        size: Height and width of the input, pixels.
        batch: Images.
        perturbed: Whether `C` and p are moved away from their start, as after some training: by random factors with a
            standard deviation of 5 %, and by at most 10 %.
    """

    prefix: str
    arch: str
    size: int
    batch: int
    perturbed: bool = False

    def __str__(self) -> str:
        off = ", masks moved 5 %" if self.perturbed else ""
        return f"{self.prefix}_{self.arch}{off}, {self.size} px, batch {self.batch}"

    @property
    def large(self) -> str:
        """Name of the network with the same kernels and no masks."""
        return self.arch if self.arch.startswith("replknet") else f"large_{self.arch}"

    def input(self) -> Tensor:
        """Return a batch of images, shape `(N, 3, H, W)`."""
        return torch.randn(self.batch, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))

    def forms(self) -> dict[str, Callable[[], nn.Module]]:
        """Return a builder for each form: large kernels, no change, masks, merged masks, merged and cropped masks."""
        return {
            "large": lambda: _filled(timm.create_model(self.large), False),
            "base": lambda: _filled(timm.create_model(self.arch), False),
            "lp": self._lp,
            "merged": lambda: lp_merge(self._lp().eval()),
            "cropped": lambda: lp_merge(self._lp().eval(), crop=True),
        }

    def _lp(self) -> nn.Module:
        return _filled(timm.create_model(f"{self.prefix}_{self.arch}"), self.perturbed)


@dataclass(frozen=True)
class Layer:
    """A single convolution that keeps its map's size.

    Attributes:
        kernel_size: Height and width of the kernel, pixels.
        channels: Channels in and out.
        size: Height and width of the map, pixels.
        depthwise: Whether each channel is convolved by itself.
        batch: Images.
    """

    kernel_size: int
    channels: int
    size: int
    depthwise: bool
    batch: int

    def __str__(self) -> str:
        kind = "depthwise" if self.depthwise else "dense"
        kernel = f"{self.kernel_size}x{self.kernel_size}"
        return f"{kind} {kernel}, {self.channels} channels, {self.size}x{self.size}, batch {self.batch}"

    def input(self) -> Tensor:
        """Return a batch of maps, shape `(N, C, H, W)`, with `requires_grad`."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, self.channels, self.size, self.size, generator=generator).requires_grad_()

    def forms(self) -> dict[str, Callable[[], nn.Module]]:
        """Return a builder for each form: torch's convolution, and the masked one."""
        groups = self.channels if self.depthwise else 1
        arguments = (self.channels, self.channels, self.kernel_size, 1, self.kernel_size // 2, 1, groups)
        return {"large": lambda: nn.Conv2d(*arguments), "lp": lambda: LpConv2d(*arguments)}


NETWORKS = (
    Network("lp2", "resnet18", 64, 16),
    Network("lp2", "resnet18", 224, 4),
    Network("lp2", "resnet18", 224, 16),
    Network("lp2", "convnext_tiny", 224, 2),
    Network("lp2", "convnextv2_tiny", 224, 2),
    Network("lp2", "replknet31", 224, 2),
    Network("lp16", "resnet18", 64, 16),
    Network("lp16", "resnet18", 64, 16, perturbed=True),
    Network("lp16", "resnet18", 224, 4),
    Network("lp16", "resnet18", 224, 4, perturbed=True),
)

LAYERS = tuple(
    Layer(kernel_size, channels, size, depthwise=True, batch=2)
    for (channels, size), kernel_size in product([(96, 56), (192, 28), (384, 14), (768, 7)], [7, 13, 15, 31, 51])
) + tuple(
    Layer(kernel_size, channels, size, depthwise=False, batch=4)
    for (channels, size), kernel_size in product([(64, 56), (128, 28), (256, 14), (512, 7), (512, 2)], [1, 3, 7])
)


@torch.no_grad()
def _filled(model: nn.Module, perturbed: bool) -> nn.Module:
    """Fill all taps of a network's convolutions, as training does; a kernel just embedded has rings of zeros."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.normal_(std=module.weight[0].numel() ** -0.5, generator=generator)
        if perturbed and isinstance(module, LpConv2d):
            module.C.mul_(_factors(module.C, generator))
            module.log2p.add_(_factors(module.log2p, generator).log2())
    return model


def _factors(parameter: Tensor, generator: torch.Generator) -> Tensor:
    return 1 + _PERTURBATION * torch.randn(parameter.shape, generator=generator).clamp(-2, 2)
