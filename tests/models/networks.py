"""Networks that are small enough to run, and what the tests of the models do with them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_lp import LpConv2d

NUM_CLASSES = 7

_STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
# Two with a small stem, with and without a bias, stand for all: nothing else differs from the base networks.
SMALL: dict[str, dict[str, Any]] = {
    "alexnet": {},
    "vgg16": {"mlp_ratio": 0.01},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)},
    "alexnet_small_stem": {},
    "resnet18_small_stem": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)},
    "resnet50": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)},
    "resnext50_32x4d": {"layers": (1, 1, 1, 1), "channels": (16, 16, 32, 32)},
    "densenet121": {"block_config": (2, 2, 2, 2), "growth_rate": 8},
    "convnext_tiny": _STAGES,
    "convnextv2_tiny": _STAGES,
    "replknet31": {**_STAGES, "kernel_sizes": (7, 7, 5, 5)},
    "replknet_xl": {**_STAGES, "kernel_sizes": (7, 7, 5, 5)},
}

# One of each kind by default; the others differ from them in a stem, in depth or in a layer.
_KINDS = ("alexnet", "vgg16", "resnet18_small_stem", "resnext50_32x4d", "densenet121", "convnextv2_tiny", "replknet31")
every_architecture = pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=[] if arch in _KINDS else pytest.mark.exhaustive) for arch in SMALL]
)


def create(name: str, **kwargs: Any) -> nn.Module:
    """Return timm's model `name`, a base network or a variant of one, in its small form."""
    arch = name if name in SMALL else name.split("_", 1)[1]
    return timm.create_model(name, **{"num_classes": NUM_CLASSES, **SMALL[arch], **kwargs})


def create_base(arch: str, **kwargs: Any) -> nn.Module:
    """Return a base network with weights that could be trained ones, evaluating."""
    torch.manual_seed(0)
    return randomize(create(arch, **kwargs)).eval()


def create_trained(name: str, **kwargs: Any) -> nn.Module:
    """Return a converted network whose weights and masks are no longer those that it started from, evaluating."""
    arch = name.split("_", 1)[1]
    base_kwargs = {key: value for key, value in kwargs.items() if key in ("num_classes", "in_chans", "global_pool")}
    return stir(create_from(create_base(arch, **base_kwargs), name, **kwargs))


def create_from(base: nn.Module, name: str, **kwargs: Any) -> nn.Module:
    """Return model `name` with another's weights, loaded as pretrained ones are, evaluating."""
    overlay = {
        "state_dict": base.state_dict(),
        "num_classes": base.num_classes,
        "input_size": (base.in_chans, 224, 224),
    }
    return create(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs).eval()


@torch.no_grad()
def randomize(model: nn.Module) -> nn.Module:
    """Draw weights that carry the image to the output, and scales and statistics other than 0 and 1."""
    for name, tensor in model.state_dict().items():
        kind = name.rpartition(".")[2]
        if kind in ("bias", "running_mean"):
            tensor.uniform_(-0.2, 0.2)
        elif kind in ("gamma", "running_var") or (kind == "weight" and tensor.squeeze().ndim < 2):
            tensor.uniform_(0.5, 1.5)
        elif kind == "weight":
            bound = math.sqrt(6 * tensor.shape[0] / tensor.numel())
            tensor.uniform_(-bound, bound)
    return model


@torch.no_grad()
def stir(model: nn.Module) -> nn.Module:
    """Move the masks and the large kernels away from where the conversion puts them, as training does."""
    for module in model.modules():
        if isinstance(module, LpConv2d):
            for tensor in (module.C, module.log2p, module.weight):
                tensor.add_(torch.empty_like(tensor).uniform_(-0.02, 0.02))
    return model


def images(arch: str = "", in_chans: int = 3) -> Tensor:
    """Return a batch of two images of the smallest size that suits the network."""
    size = 32 if "vgg" in arch or "small_stem" in arch else 64
    return torch.randn(2, in_chans, size, size, generator=torch.Generator().manual_seed(1))


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Compare outputs for a batch of images, relative to what the image contributes to them."""
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max() / (expected - expected.mean(dim=0)).abs().max()
    assert error < tolerance, f"relative error {error:.2g}"


@contextmanager
def seed(value: int = 0) -> Iterator[None]:
    """Draw the same random numbers inside every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(value)
        yield
