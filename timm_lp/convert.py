"""Turn any network's convolutions into Lp-convolutions (the paper's LpConvert, A.21)."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .layers import LpConv2d, is_adapter, to_large_conv2d
from .layers.lp_conv2d import check_p_init
from .merge import leave_unmerged, replace_convs
from .notes import filter_of_layers, note_conversion, read_conversion
from .selection import FilterFn, check_module, feature_extractor_filter, named_layers, tied_parameters, why_left_alone
from .weight_decay import spare_masks_from_weight_decay

_logger = logging.getLogger(__name__)


def lp_convert(
    model: nn.Module,
    p_init: float = 2.0,
    *,
    kernel_scale: int = 2,
    masked: bool = True,
    trainable_mask: bool = True,
    preserve: bool = True,
    filter_fn: FilterFn | None = None,
    lp_layers: Sequence[str] | None = None,
    conversion: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Replace a network's convolutions by Lp-convolutions of about twice their kernel size.

    The network notes as `model.lp_conversion`, plain data, what became of it. What timm saves of a network of its own
    (`save_for_hf`, `push_to_hf_hub`, `hub_export`) can be built again: it is `lp_<network>`, or `large_<network>`, with
    the note as its argument `conversion`. Save the note of another network beside its weights:

    ```python
    torch.save({"conversion": model.lp_conversion, "weights": model.state_dict()}, "network.pt")

    saved = torch.load("network.pt")
    model = lp_convert(MyNetwork(), conversion=saved["conversion"])
    model.load_state_dict(saved["weights"])
    ```

    Everything is checked before the first layer is replaced. Convolutions that cannot be replaced faithfully
    (subclasses with a `forward` of their own, parametrized or tied weights, forward hooks) are left as they are and
    named in a log line. The model's `no_weight_decay()` then names the masks' parameters too.

    Args:
        model: The network, changed in place. A bare `nn.Conv2d` cannot be, so use what is returned.
        p_init: Exponent p that the masks start with.
        kernel_scale: 2 for the paper's kernel `l = 2 * ceil(k / 2) + k`, 1 for kernels as they are.
        masked: False for the paper's "Large": the same kernels without masks.
        trainable_mask: False freezes the masks, the dagger of Table 1.
        preserve: True keeps the function that the network computes, at every p; False lets the masks damp the
            embedded kernels, as the authors do.
        filter_fn: `filter_fn(module, fqn) -> bool` chooses among the `nn.Conv2d`; None for those of the feature
            extractor, as in the paper (`timm_lp.selection.feature_extractor_filter`).
        lp_layers: Names of the only ones of these to convert, or of modules that they are in: `["layer1"]`,
            `["blocks.*.conv_dw"]`, `["depthwise"]` (`timm_lp.selection.named_layers`); None for all of them.
        conversion: The note of another network of this kind, in place of all other arguments.

    Returns:
        The converted model.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If `p_init` is not a finite number >= 1, `kernel_scale` neither 1 nor 2, the model has
            LpConv2d or adapters of peft already, no convolution is left to convert, `lp_layers` names none of them,
            or `conversion` does not fit it.
    """
    if conversion is not None:
        check_module(model)
        layers, arguments = read_conversion(conversion)
        return lp_convert(model, filter_fn=filter_of_layers(layers, model), **arguments)
    model, layers = swap_convs(
        model,
        filter_fn,
        p_init=p_init,
        kernel_scale=kernel_scale,
        masked=masked,
        trainable_mask=trainable_mask,
        preserve=preserve,
        lp_layers=lp_layers,
    )
    options = {"p_init": p_init, "trainable_mask": trainable_mask, "preserve": preserve} if masked else {}
    note = {"layers": layers, "masked": masked, "kernel_scale": kernel_scale, **options}
    note_conversion(model, note)
    return model


def swap_convs(
    model: nn.Module,
    filter_fn: FilterFn | None = None,
    *,
    p_init: float = 2.0,
    kernel_scale: int = 2,
    masked: bool = True,
    trainable_mask: bool = True,
    preserve: bool = True,
    lp_layers: Sequence[str] | None = None,
) -> tuple[nn.Module, list[str]]:
    """Do what `lp_convert` does, without a note on the network, and return the converted layers' names too.

    Args:
        model: As in `lp_convert`, like all arguments.
        filter_fn: As in `lp_convert`.
        p_init: As in `lp_convert`.
        kernel_scale: As in `lp_convert`.
        masked: As in `lp_convert`.
        trainable_mask: As in `lp_convert`.
        preserve: As in `lp_convert`.
        lp_layers: As in `lp_convert`.

    Raises:
        TypeError: As in `lp_convert`.
        ValueError: As in `lp_convert`.
    """
    check_module(model)
    check_p_init(p_init)
    convs = _find_convs(model, filter_fn, lp_layers)
    layers = [name for name, module in model.named_modules() if module in convs]
    replacements = {
        conv: LpConv2d.from_conv2d(
            conv, p_init, kernel_scale=kernel_scale, trainable_mask=trainable_mask, preserve=preserve
        )
        if masked
        else to_large_conv2d(conv, kernel_scale)
        for conv in convs
    }
    model = replace_convs(model, replacements)
    leave_unmerged(model, set(replacements.values()))
    if masked:
        spare_masks_from_weight_decay(model)
    _logger.info("Converted %d convolutions of %s.", len(replacements), type(model).__name__)
    return model, layers


def _find_convs(model: nn.Module, filter_fn: FilterFn | None, lp_layers: Sequence[str] | None) -> list[nn.Conv2d]:
    """Return the convolutions to convert, each once, and log those that the filter chose and that have to stay."""
    converted = [name for name, module in model.named_modules() if isinstance(module, LpConv2d)]
    if converted:
        raise ValueError(
            f"`model` must not be converted yet, got {type(model).__name__} with {len(converted)} LpConv2d "
            f"(the first is {converted[0]!r}). Build the base model again."
        )
    adapted = [name for name, module in model.named_modules() if is_adapter(module)]
    if adapted:
        raise ValueError(
            f"`model` must have no adapters yet, got {type(model).__name__} with one of peft's at {adapted[0]!r}. "
            "Convert the network first, and adapt it with `timm_lp.lora.lp_lora_config`."
        )
    candidates = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    filter_fn = filter_fn or feature_extractor_filter(model)
    tied = tied_parameters(model)
    reasons = {name: why_left_alone(conv, tied) for name, conv in candidates if filter_fn(conv, name)}
    if lp_layers is not None:
        named = named_layers(lp_layers, dict(candidates), reasons)
        reasons = {name: reason for name, reason in reasons.items() if name in named}
    chosen = [conv for name, conv in candidates if name in reasons and not reasons[name]]
    stay = _listed(reasons)
    if not chosen:
        raise ValueError(
            f"`model` must have a convolution to convert, got {type(model).__name__} with {len(candidates)} Conv2d, of "
            f"which `filter_fn` chose {len(reasons)}. Choose others with `filter_fn`.{stay}"
        )
    if stay:
        _logger.warning("Not every chosen convolution of %s is converted.%s", type(model).__name__, stay)
    return chosen


def _listed(reasons: dict[str, str | None]) -> str:
    """Return the convolutions that have to stay, by reason, as text; empty where there are none."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            names.setdefault(reason, []).append(name)
    return "".join(f" Left alone since {reason}: {', '.join(group)}." for reason, group in names.items())
