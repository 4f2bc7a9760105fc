"""What became of a network, as plain data: the notes of `lp_convert` and `lp_merge`, and how they are read."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from .selection import FilterFn, tied_parameters, why_left_alone

_MASK_OPTIONS = ("p_init", "trainable_mask", "preserve")


def note_conversion(model: Any, note: dict[str, Any]) -> None:
    """Let a model know how it was converted, and each network of timm in it how timm builds it again."""
    model.lp_conversion = note
    for prefix, network in _networks(model):
        if layers := _within(prefix, note["layers"]):
            network.lp_conversion = {**note, "layers": layers}
            _note(network, {"conversion": network.lp_conversion}, "lp_" if note["masked"] else "large_")


def note_merge(model: nn.Module, masked: Sequence[str], cropped: Mapping[str, list[int]]) -> None:
    """Let each network of timm in a model know that its masks are merged.

    Args:
        model: The merged model.
        masked: Names of the layers that had masks.
        cropped: `(Kh, Kw)`, pixels, of the kernels that were cropped, by layer.
    """
    for prefix, network in _networks(model):
        if _within(prefix, masked):
            sizes = {layer: cropped[prefix + layer] for layer in _within(prefix, [*cropped])}
            _note(network, {"merged": True, **({"cropped": sizes} if sizes else {})})


def _networks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the networks of timm that a model contains, itself included, behind what its names put before theirs."""
    for name, module in model.named_modules():
        config = getattr(module, "pretrained_cfg", None)
        if isinstance(config, dict) and config.get("architecture"):
            yield name + "." * bool(name), module


def _within(prefix: str, layers: Sequence[str]) -> list[str]:
    return [layer.removeprefix(prefix) for layer in layers if layer.startswith(prefix)]


def _note(network: Any, arguments: dict[str, Any], prefix: str = "") -> None:
    config = network.pretrained_cfg
    network.pretrained_cfg = network.default_cfg = {**config, "architecture": prefix + config["architecture"]}
    network._model_args = {**getattr(network, "_model_args", {}), **arguments}  # what timm saves


def read_conversion(note: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the converted layers and the arguments of `lp_convert` that its note gives.

    Raises:
        ValueError: If it is no note that this version knows.
    """
    is_note = isinstance(note, Mapping)
    known = {"layers", "masked", "kernel_scale", *(_MASK_OPTIONS if is_note and note.get("masked") else ())}
    if not is_note or note.keys() != known:
        got = f"one with other {reprlib.repr(sorted(note.keys() ^ known))}" if is_note else reprlib.repr(note)
        raise ValueError(
            f"`conversion` must be a note of lp_convert with {', '.join(sorted(known))}, got {got}. If a newer version "
            "of timm-lp wrote it: pip install -U timm-lp."
        )
    layers = note["layers"]
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"`conversion` must name the converted layers, got {reprlib.repr(layers)}.")
    for name in ("masked", "trainable_mask", "preserve"):
        if not isinstance(note.get(name, True), bool):
            raise ValueError(f"`conversion` must have true or false as {name!r}, got {reprlib.repr(note[name])}.")
    return list(layers), {key: value for key, value in note.items() if key != "layers"}


def filter_of_layers(layers: Sequence[str], model: nn.Module) -> FilterFn:
    """Return the filter that chooses the convolutions of these names.

    Raises:
        ValueError: If the model has no such convolution, or one that cannot be converted.
    """
    tied = tied_parameters(model)
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    reasons = {name: why_left_alone(convs[name], tied) if name in convs else "it is none" for name in layers}
    for name, reason in reasons.items():
        if reason:
            raise ValueError(
                f"`conversion` must name convolutions of {type(model).__name__}, got {reprlib.repr(name)}: {reason}. "
                "Build the network as it was then."
            )
    return lambda module, fqn: fqn in reasons
