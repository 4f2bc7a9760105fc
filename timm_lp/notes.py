"""What became of a network, as plain data: the notes of `lp_convert` and `lp_merge`, and how they are read."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .selection import FilterFn


def note_conversion(model: Any, note: dict[str, Any]) -> None:
    """Let a network know how it was converted, and one of timm's with which name and arguments it is built again."""
    model.lp_conversion = note
    _note(model, {"conversion": note}, "lp_" if note["masked"] else "large_")


def note_merge(model: Any, cropped: dict[str, list[int]]) -> None:
    """Let a network of timm's know that its masks are merged, and which kernels, by layer, have which size since."""
    _note(model, {"merged": True, **({"cropped": cropped} if cropped else {})})


def _note(model: Any, arguments: dict[str, Any], prefix: str = "") -> None:
    config = getattr(model, "pretrained_cfg", None)
    if isinstance(config, dict) and config.get("architecture"):
        model.pretrained_cfg = model.default_cfg = {**config, "architecture": prefix + config["architecture"]}
        model._model_args = {**getattr(model, "_model_args", {}), **arguments}  # what timm saves


def read_conversion(note: Any) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the converted layers and the arguments of `lp_convert` that its note gives.

    Raises:
        ValueError: If it is no note that this version knows.
    """
    masked = isinstance(note, Mapping) and bool(note.get("masked"))
    known = {"layers", "masked", "kernel_scale", *(("p_init", "trainable_mask", "preserve") if masked else ())}
    if not isinstance(note, Mapping) or note.keys() != known:
        keys = ", ".join(sorted(map(str, note))) if isinstance(note, Mapping) else repr(note)
        raise ValueError(
            f"`conversion` must be a note of lp_convert with {', '.join(sorted(known))}, got {keys}. If a newer "
            "version of timm-lp wrote it: pip install -U timm-lp."
        )
    layers = note["layers"]
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"`conversion` must name the converted layers, got {layers!r}.")
    return list(layers), {key: value for key, value in note.items() if key != "layers"}


def filter_of_layers(layers: Sequence[str], model: nn.Module) -> FilterFn:
    """Return the filter that chooses the convolutions of these names.

    Raises:
        ValueError: If the model has no such convolution.
    """
    convs = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if missing := sorted({*layers} - convs):
        raise ValueError(
            f"`conversion` must name convolutions of {type(model).__name__}, got {missing[0]!r}, which is none. Build "
            "the network with the arguments that it had then."
        )
    return lambda module, fqn: fqn in layers
