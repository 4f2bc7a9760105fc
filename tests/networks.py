"""Small networks, and what a conversion must keep of them."""

from typing import Any

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class Net(nn.Module):
    """Three ordinary convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.block = Block()
        self.last = nn.Conv2d(4, 6, (1, 3), padding="same")
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.block(self.stem(x))).mean((2, 3)))


class Shared(nn.Module):
    """Calls one convolution under three names, and one norm under two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = self.alias = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.again = nn.ModuleList([self.conv, self.norm])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.alias(self.conv(x)))
        return self.again[1](self.again[0](x))


class Namesakes(nn.Module):
    """Uses names that other packages give a meaning for attributes of its own, in a part of a larger network too."""

    def __init__(self, nested: bool = True) -> None:
        super().__init__()
        self.base_layer = nn.Conv2d(3, 4, 3, padding=1)
        self.fuse = nn.Conv2d(8, 3, 1)
        self.switch_to_deploy = "never"
        self.part = Namesakes(nested=False) if nested else nn.Identity()

    def reparameterize(self, mean: Tensor, deviation: Tensor) -> Tensor:
        return mean + 0.1 * deviation

    def forward(self, x: Tensor) -> Tensor:
        features = self.base_layer(x)
        return self.part(self.fuse(torch.cat([features, self.reparameterize(features.relu(), features)], dim=1)))


def as_timm(model: nn.Module, size: int = 8) -> nn.Module:
    """Make a network look like one that timm built."""
    model.pretrained_cfg = {"input_size": (3, size, size), "first_conv": "stem"}
    return model


def randomize(model: nn.Module) -> nn.Module:
    """Give every norm, scale and bias, and their statistics, values that are not those of the initialisation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                low = -0.3 if name.endswith(("bias", "running_mean")) else 0.5
                tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
    return model.eval()


def image(size: int = 64, channels: int = 3) -> Tensor:
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def relative_error(model: nn.Module, expected: Tensor, x: Tensor) -> float:
    output = model(x)
    assert output.shape == expected.shape
    return ((output - expected).abs().max() / expected.abs().max()).item()


def assert_same_function(converted: nn.Module, model: nn.Module, x: Tensor) -> None:
    assert relative_error(converted, model(x).detach(), x) < 1e-5


def names_of(model: nn.Module, *types: type[nn.Module]) -> list[str]:
    """Return the names of the modules of exactly these types."""
    return [name for name, module in model.named_modules() if type(module) in types]


def snapshot(model: nn.Module) -> tuple[list[Any], dict[str, Tensor]]:
    """Return what a model consists of, down to its attributes and hooks, and a copy of its tensors."""
    structure: list[Any] = [
        (name, module, type(module), module.training, [*vars(module)], [*module._forward_pre_hooks])
        for name, module in model.named_modules(remove_duplicate=False)
    ]
    structure += [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)]
    return structure, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: tuple[list[Any], dict[str, Tensor]]) -> None:
    structure, tensors = snapshot(model)
    assert structure == before[0]
    assert tensors.keys() == before[1].keys()
    assert all(torch.equal(tensors[name], before[1][name]) for name in tensors)
