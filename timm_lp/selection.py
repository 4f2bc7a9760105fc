"""Which convolutions of a network the paper converts: those of its feature extractor."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from .layers import LpConv2d
from .layers.large_kernel import computes_as_conv2d
from .variants import DEPTHWISE

FilterFn = Callable[[nn.Module, str], bool]


_EXAMPLES = 5  # names of layers in a message
_NORMS = (functional.batch_norm, functional.group_norm, functional.layer_norm)


class NoSuchLayerError(ValueError):
    """`lp_layers` names nothing that can be converted."""


class NormsLeftOut(TorchFunctionMode):
    """Let norms return their input, for runs on the meta device: they keep its shape, and take most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, unless it is a norm."""
        return args[0] if func in _NORMS else func(*args, **(kwargs or {}))


def feature_extractor_filter(model: nn.Module) -> FilterFn:
    """Return the default `filter_fn` of `lp_convert`: the convolutions of the model's feature extractor.

    In a model with timm's `forward_features` these are the convolutions that it runs on a map of more than one pixel,
    found by running it once on the meta device, without data or arithmetic. It leaves out a classifier that is written
    as convolutions (VGG, MobileNet) and the gates of squeeze-and-excite blocks. In any other model, where nothing tells
    the classifier from the features, it is every convolution, but for the classifier that a configuration names.

    Args:
        model: The network; its weights and modes are not changed.

    Raises:
        ValueError: If a timm model cannot be run to find out.
    """
    config = getattr(model, "pretrained_cfg", None)
    config = config if isinstance(config, dict) else {}  # timm's is one
    is_named = not config or config.get("classifier") is not None
    if is_named and not hasattr(model, "forward_features"):
        return lambda module, fqn: fqn not in _as_names(config.get("classifier"))
    input_size = (_in_channels(model, config), *config.get("input_size", (3, 224, 224))[1:])
    try:
        selected = _convs_that_see_a_map(model, input_size)
    except Exception as error:  # whatever a model's forward may raise, the advice is the same
        raise ValueError(
            f"`filter_fn` must be given for {type(model).__name__}: running it on a meta tensor of shape {input_size} "
            f"to find its feature extractor failed ({type(error).__name__}: {error}). "
            "Pass `filter_fn=lambda module, fqn: True` to convert every Conv2d."
        ) from error
    return lambda module, fqn: module in selected


def check_module(model: nn.Module) -> None:
    """Refuse what is no module.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be an nn.Module, got {model!r}. Build it first, with timm.create_model for instance."
        )


def masked_layers(model: nn.Module) -> dict[str, LpConv2d]:
    """Return a network's layers with masks, each under one of its names.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If it has none.
    """
    check_module(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LpConv2d)}
    if not layers:
        raise ValueError(f"`model` must have LpConv2d layers, got {type(model).__name__} without. Convert it first.")
    return layers


def why_left_alone(conv: nn.Conv2d, tied: set[int]) -> str | None:
    """Return why a convolution cannot be replaced by one of ours without changing what it does, or None.

    Args:
        conv: The convolution.
        tied: Ids of the parameters that several modules own, from `tied_parameters`.
    """
    if parametrize.is_parametrized(conv):
        return "its weight is parametrized"
    if not computes_as_conv2d(conv):
        return "it has a forward of its own"
    if isinstance(conv.weight, nn.parameter.UninitializedParameter):
        return "it is not initialised yet"
    if conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks:
        return "it has hooks"
    if any(id(parameter) in tied for parameter in conv.parameters()):
        return "its weight or bias is shared with another layer"
    return None


def named_layers(
    patterns: Sequence[str], convs: Mapping[str, nn.Conv2d], reasons: Mapping[str, str | None]
) -> set[str]:
    """Return the names of the convolutions that patterns name.

    A pattern is a layer's name, or that of a module that layers are in, as `timm.utils.freeze` takes them; with the
    wildcards of `fnmatch`, as timm's `no_weight_decay` takes them, where `*` is any text with dots in it; or
    `depthwise`.

    Args:
        patterns: The patterns, each of which must name a convolution that can be converted.
        convs: A network's convolutions by their names.
        reasons: Those that are to be converted, and why some cannot be (None for the others).

    Raises:
        NoSuchLayerError: If one names nothing that can be converted.
        ValueError: If there is no pattern.
    """
    if isinstance(patterns, str) or not patterns:
        raise ValueError(f"`lp_layers` must be a list of names of layers, got {patterns!r}. Write ['layer1'].")
    named: set[str] = set()
    for pattern in patterns:
        matching = {name for name, conv in convs.items() if _is_named(name, conv, pattern)}
        if all(reasons.get(name, "left out") for name in matching):
            raise NoSuchLayerError(_nothing_named(pattern, next(iter(matching), None), reasons))
        named |= matching
    return named


def _is_named(name: str, conv: nn.Conv2d, pattern: str) -> bool:
    if pattern == DEPTHWISE:
        return conv.groups == conv.in_channels > 1
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _nothing_named(pattern: str, example: str | None, reasons: Mapping[str, str | None]) -> str:
    """Return what is wrong with a pattern that names no convolution that can be converted."""
    there = [name for name, reason in reasons.items() if not reason]
    examples = ", ".join(there[:: max(1, len(there) // _EXAMPLES)][:_EXAMPLES])
    fault = "which names none of the network's"
    if example is not None:
        why = reasons.get(example) or "it sees no map of the feature extractor, or `filter_fn` leaves it out"
        fault = f"which names {example} for instance, left alone since {why}"
    return (
        f"`lp_layers` must name convolutions that can be converted, got {pattern!r}, {fault}. There are "
        f"{len(there)}: {examples or 'none'}{' and others' if len(there) > _EXAMPLES else ''}."
    )


def tied_parameters(model: nn.Module) -> set[int]:
    """Return the ids of the parameters that more than one module owns."""
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    return {key for key, count in owners.items() if count > 1}


def _as_names(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _in_channels(model: nn.Module, config: dict[str, Any]) -> int:
    """Return the number of channels of the model's input."""
    in_chans = getattr(model, "in_chans", None)
    if isinstance(in_chans, int):
        return in_chans
    name = next(iter(_as_names(config.get("first_conv"))), None)
    module = dict(model.named_modules()).get(name) if name else None
    return module.in_channels if isinstance(module, nn.Conv2d) else config.get("input_size", (3,))[0]


def _convs_that_see_a_map(model: nn.Module, input_size: tuple[int, ...]) -> set[nn.Module]:
    """Return the convolutions that the feature extractor runs on a map of more than one pixel."""
    selected: set[nn.Module] = set()

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].shape[-2:].numel() > 1:
            selected.add(module)

    features = _Features(model)
    # Each module once, under one of its names: functional_call would not put back what it swaps twice.
    on_meta = {
        f"{fqn}.{name}": torch.empty_like(
            tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else None
        )
        for fqn, module in features.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }
    hooks = [module.register_forward_pre_hook(record) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        with _evaluating(model), torch.no_grad(), torch.device("meta"), NormsLeftOut():
            functional_call(features, on_meta, (torch.empty(2, *input_size),), tie_weights=False)
    finally:
        for hook in hooks:
            hook.remove()
    return selected


class _Features(nn.Module):
    """Gives a model's `forward_features`, where it has one that works, to `functional_call`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        try:
            return getattr(self.model, "forward_features", self.model)(x)
        except (AssertionError, NotImplementedError):  # of a network that is built for features alone
            return self.model(x)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode for a while, and each of its modules back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
