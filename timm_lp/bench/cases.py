"""The networks and single layers that are measured, each in several forms: without masks, with masks, merged."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import load_model_config_from_hf
from torch import Tensor, nn

from ..layers import LpConv2d
from ..merge import lp_merge
from ..models.loading import CONFIG_FILE, HUB
from ..models.lp_models import FORM_ARGUMENTS
from ..models.user_networks import path_of, registered_name
from ..models.variants import split_name
from ..trials.networks import Subject, find_networks, short_names

_PERTURBATION = 0.05


@dataclass(frozen=True)
class Network:
    """A network beside its base and large networks.

    Attributes:
        subject: The network.
        name: What tables and pictures call it.
        input_size: `(channels, height, width)`.
        batch: Images.
        model: Name of its base network, or the path of a user's class.
        arguments: Of `timm.create_model` for the base and the large network.
        of_large: Further ones for the large network.
        masked: Whether it has masks.
        perturbed: Whether `C` and p are moved away from their start, as after some training: by random factors with a
            standard deviation of 5 %, and by at most 10 %.
        training: Whether training is measured too.
    """

    subject: Subject
    name: str
    input_size: tuple[int, int, int]
    batch: int
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    of_large: dict[str, Any] = field(default_factory=dict)
    masked: bool = True
    perturbed: bool = False
    training: bool = True

    def __str__(self) -> str:
        _, height, width = self.input_size
        size = f"{height}" if height == width else f"{height}x{width}"
        moved = ", masks moved 5 %" if self.perturbed else ""
        return f"{self.name}{moved}, {size} px, batch {self.batch}"

    def input(self) -> Tensor:
        """Return a batch of images, shape `(N, C, H, W)`."""
        return torch.randn(self.batch, *self.input_size, generator=torch.Generator().manual_seed(0))

    def forms(self) -> dict[str, Callable[[], nn.Module]]:
        """Return a builder for each form: large kernels, no change, the network, merged masks, merged and cropped.

        `lp` is the network, be it with masks or without; the last two are there if it has masks.
        """
        forms = {
            "large": lambda: self._untrained(f"large_{self.model}", **self.of_large),
            "base": lambda: self._untrained(self.model),
            "lp": self._lp,
        }
        if self.masked:
            forms["merged"] = lambda: lp_merge(self._lp().eval())
            forms["cropped"] = lambda: lp_merge(self._lp().eval(), crop=True)
        return forms

    def _lp(self) -> nn.Module:
        return _load(self.subject, self.perturbed)

    def _untrained(self, name: str, **arguments: Any) -> nn.Module:
        # A process of its own, in which memory is measured, does not know a user's class yet.
        return _filled(timm.create_model(registered_name(name), **self.arguments, **arguments))


def registered(name: str, size: int, batch: int, **options: bool) -> Network:
    """Return the case of a registered name, on square images of a size (pixels), with random weights."""
    return Network(Subject(name), name, (3, size, size), batch, split_name(name)[0], **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layer:
    """A single convolution that keeps its map's size.

    Attributes:
        kernel_size: Height and width of the kernel, pixels.
        channels: Channels in and out.
        size: Height and width of the map, pixels.
        groups: Groups of channels; as many as there are channels in a depthwise convolution.
        batch: Images.
        training: Whether training is measured too.
    """

    kernel_size: int
    channels: int
    size: int
    groups: int
    batch: int
    training: bool = True

    @property
    def kind(self) -> str:
        """What the groups make of it."""
        return {1: "dense", self.channels: "depthwise"}.get(self.groups, f"{self.groups} groups")

    @property
    def family(self) -> str:
        """What it shares with the layers that differ from it in the kernel's size alone."""
        return f"{self.kind}, {self.channels} channels, {self.size}x{self.size}, batch {self.batch}"

    def __str__(self) -> str:
        return f"{self.kernel_size}x{self.kernel_size} {self.family}"

    def input(self) -> Tensor:
        """Return a batch of maps, shape `(N, C, H, W)`."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, self.channels, self.size, self.size, generator=generator)

    def forms(self) -> dict[str, Callable[[], nn.Module]]:
        """Return a builder for each form: torch's convolution, and the masked one."""
        arguments = (self.channels, self.channels, self.kernel_size, 1, self.kernel_size // 2, 1, self.groups)
        return {"large": lambda: nn.Conv2d(*arguments), "lp": lambda: LpConv2d(*arguments)}


def given_cases(names: Sequence[str], batch: int) -> list[Network]:
    """Return a case for each network that a command line names; they are loaded for that.

    Args:
        names: As `find_networks` takes them.
        batch: Images. Of a single one, only evaluation is measured: BatchNorm may need several for training.

    Raises:
        ValueError: If there is no such network, or its files are damaged.
        OSError: If one cannot be fetched.
    """
    subjects = find_networks(names).networks
    short = short_names(subject.name for subject in subjects)
    return [_given(subject, short[subject.name], batch) for subject in subjects]


def _given(subject: Subject, name: str, batch: int) -> Network:
    network = _load(subject)
    channels, height, width = resolve_model_data_config(network)["input_size"]
    masked = any(isinstance(module, LpConv2d) for module in network.modules())
    arguments = {"num_classes": network.num_classes, **({"in_chans": channels} if channels != 3 else {})}
    config: Any = network.pretrained_cfg
    model = path_of(config["architecture"]) or split_name(config["architecture"])[0]
    saved = _model_args(subject)
    of_base = arguments | {key: value for key, value in saved.items() if key not in FORM_ARGUMENTS}
    of_large = {key: value for key, value in saved.items() if key == "lp_layers"}
    if note := saved.get("conversion"):
        of_large["conversion"] = {**{key: note[key] for key in ("layers", "kernel_scale")}, "masked": False}
    return Network(
        subject, name, (channels, height, width), batch, model, of_base, of_large, masked, training=batch > 1
    )


def _load(subject: Subject, perturbed: bool = False) -> nn.Module:
    """Return a network with its weights; one of a registered name with random ones, which need no download."""
    is_registered = subject.path is None and not subject.name.startswith(HUB)
    return _filled(subject.load(pretrained=False), perturbed) if is_registered else subject.load()


def _model_args(subject: Subject) -> dict[str, Any]:
    """Return the arguments that a saved network was made with."""
    if subject.name.startswith(HUB):
        return load_model_config_from_hf(subject.name.removeprefix(HUB))[2]
    if subject.path is None:
        return {}
    folder = subject.path if subject.path.is_dir() else subject.path.parent
    return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("model_args") or {}


Case = Network | Layer

_NETWORKS = (
    registered("lp2_resnet18", 64, 16),
    registered("lp2_resnet18", 224, 4),
    registered("lp2_resnet18", 224, 16),
    registered("lp2_convnext_tiny", 224, 2),
    registered("lp2_convnextv2_tiny", 224, 2),
    registered("lp2_replknet31", 224, 2),
    registered("lp16_resnet18", 64, 16),
    registered("lp16_resnet18", 64, 16, perturbed=True),
    registered("lp16_resnet18", 224, 4),
    registered("lp16_resnet18", 224, 4, perturbed=True),
)


def _with_masks(*cases: tuple[str, int, int], **options: bool) -> tuple[Network, ...]:
    return tuple(
        registered(f"{prefix}_{case[0]}", *case[1:], **options) for case in cases for prefix in ("lp2", "lp16")
    )


_TRAINING = _with_masks(
    ("resnet18_small_stem", 32, 128), ("resnet18", 224, 8), ("convnext_tiny", 224, 4), ("replknet31", 224, 4)
)
_COMPILED = _with_masks(("resnet18_small_stem", 32, 32), ("convnext_tiny", 96, 4))
_LATENCY = _with_masks(("resnet18", 224, 1), ("convnext_tiny", 224, 1), ("replknet31", 224, 1), training=False)

_LAYERS = tuple(
    Layer(kernel_size, channels, size, channels, batch=2)
    for (channels, size), kernel_size in product([(96, 56), (192, 28), (384, 14), (768, 7)], [7, 13, 15, 31, 51])
) + tuple(
    Layer(kernel_size, channels, size, 1, batch=4)
    for (channels, size), kernel_size in product([(64, 56), (128, 28), (256, 14), (512, 7), (512, 2)], [1, 3, 7])
)

_GROWTH = tuple(Layer(kernel_size, 64, 56, 64, batch=4) for kernel_size in (7, 13, 15, 21, 31, 51)) + tuple(
    Layer(kernel_size, 128, 28, 1, batch=4) for kernel_size in (7, 13, 15, 21, 31)
)

# Dense kernels beyond 15x15 with 128 channels alone: with fewer, one gradient of torch's in bfloat16 takes minutes.
_GRID = tuple(
    Layer(kernel_size, channels, size, groups, batch=4)
    for channels, size in [(64, 56), (128, 28), (256, 14), (256, 7)]
    for groups in (1, 4, channels)
    for kernel_size in (3, 5, 7, 11, 13, 15, 21, 31)
    if kernel_size <= 15 or groups == channels or channels // groups == 128
)

SUITES: dict[str, tuple[Case, ...]] = {
    "networks": _NETWORKS,
    "training": _TRAINING,
    "compiled": _COMPILED,
    "latency": _LATENCY,
    "layers": _LAYERS,
    "growth": _GROWTH,
    "grid": _GRID,
}


@torch.no_grad()
def _filled(model: nn.Module, perturbed: bool = False) -> nn.Module:
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
