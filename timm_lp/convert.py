"""Turn any network's convolutions into Lp-convolutions (the paper's LpConvert, A.21)."""

import copy
import fnmatch
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from .layers import LpConv2d, crop_conv2d, is_adapter, to_large_conv2d
from .layers.hooks import has_hooks
from .layers.lp_conv2d import check_p_init
from .notes import filter_of_layers, note_conversion, note_merge, read_conversion
from .selection import FilterFn, feature_extractor_filter, named_layers, tied_parameters, why_left_alone

_logger = logging.getLogger(__name__)

_MASK_PATTERNS = ("*.C", "*.log2p")
_MERGES = ("fuse", "reparameterize", "switch_to_deploy")  # what timm's reparameterize_model calls, without arguments


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
        _check_module(model)
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
    _check_module(model)
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
    model = _replace(model, replacements)
    _leave_unmerged(model, set(replacements.values()))
    if masked:
        spare_masks_from_weight_decay(model)
    _logger.info("Converted %d convolutions of %s.", len(replacements), type(model).__name__)
    return model, layers


def lp_merge(model: nn.Module, *, crop: bool = False) -> nn.Module:
    """Return a copy of a network for deployment, in which the masks are folded into plain convolutions.

    The convolutions keep the forward and backward hooks of the layers that they replace.

    Args:
        model: A network with `LpConv2d` layers; it is not changed. Put it into evaluation mode first where its blocks
            merge their norms.
        crop: Whether to remove outer rings of taps that are 0 in every channel; masks with a large p have such rings.
            Convolutions with hooks keep theirs. The kernels' sizes then depend on the weights; without it, the state
            dict is that of the "Large" network.

    Returns:
        A network that computes what `model` computes, with nothing of this package in it.

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If the model has no `LpConv2d`, cannot be copied (while it is being pruned), or has hooks on layers
            that their block merges with others (RepLKNet's convolutions and norms, for instance), which cannot be kept.
    """
    _check_module(model)
    _check_masked(model)
    merged = copy_network(model)
    masked = {name: module for name, module in merged.named_modules() if isinstance(module, LpConv2d)}
    # Before the blocks' own merging, which leaves out a bare layer, and a layer's second name.
    merged = _replace(merged, {module: module.fuse() for module in masked.values()})
    _merge_blocks(merged)
    _check_hooks(model, merged)
    cropped = {}
    if crop:
        tied = tied_parameters(merged)
        convs = {name: module for name, module in merged.named_modules() if isinstance(module, nn.Conv2d)}
        smaller = {name: crop_conv2d(conv) for name, conv in convs.items() if not why_left_alone(conv, tied)}
        cropped = {name: list(conv.kernel_size) for name, conv in smaller.items() if conv is not convs[name]}
        merged = _replace(merged, {convs[name]: conv for name, conv in smaller.items()})
    note_merge(merged, [*masked], cropped)
    return merged


def spare_masks_from_weight_decay(model: nn.Module) -> None:
    """Let timm's optimizers spare the masks from weight decay, wherever in a model they are.

    Weight decay widens every mask until it masks nothing. `lp_convert` and timm's registry call this for the networks
    that they return; call it for a model that contains such a network (a segmentation or detection model, a model of
    transformers, a LightningModule, a wrapper for distributed training), just before the optimizer is created. The
    model's `no_weight_decay()`, which `timm.optim.create_optimizer_v2` asks, then names the masks' parameters, besides
    what it named before. Other libraries do not ask it: give transformers' `Trainer` timm's optimizer.

    ```python
    spare_masks_from_weight_decay(model)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    trainer = transformers.Trainer(model, arguments, optimizers=(optimizer, None))
    ```

    For an optimizer of torch's own:

    ```python
    spare_masks_from_weight_decay(model)
    groups = timm.optim.param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    ```

    Args:
        model: A model with `LpConv2d` layers, the one that the optimizer is created for; changed in place. Where no
            other parameter has such a name, the patterns `*.C` and `*.log2p` are named too, which also match once the
            model is wrapped (by `torch.compile`, say).

    Raises:
        TypeError: If `model` is not an `nn.Module`.
        ValueError: If the model has no `LpConv2d`.
    """
    _check_module(model)
    _check_masked(model)
    own = getattr(model, "no_weight_decay", ())
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    ids = {id(parameter) for layer in layers for parameter in (layer.C, layer.log2p)}
    parameters = dict(model.named_parameters())  # wrappers may give them other names than those of their modules
    masks = {name for name, parameter in parameters.items() if id(parameter) in ids}
    others = parameters.keys() - masks
    patterns = {pattern for pattern in _MASK_PATTERNS if not fnmatch.filter(others, pattern)}
    names = {*(own() if callable(own) else own), *masks, *patterns}
    model.no_weight_decay = partial(set, names)  # type: ignore[assignment] # a method to those who ask


def copy_network(model: Any) -> Any:
    """Return a copy of a network.

    Raises:
        ValueError: If it cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # of tensors that were computed, and of what no pickle holds
        raise ValueError(
            f"`model` must be a network that can be copied, got {type(model).__name__} that cannot "
            f"({type(error).__name__}). Where it is pruned, call torch.nn.utils.prune.remove first."
        ) from error


def _check_module(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"`model` must be an nn.Module, got {model!r}. Build it first, with timm.create_model for instance."
        )


def _check_masked(model: nn.Module) -> None:
    if not any(isinstance(module, LpConv2d) for module in model.modules()):
        raise ValueError(f"`model` must have LpConv2d layers, got {type(model).__name__} without. Convert it first.")


def _check_hooks(model: nn.Module, merged: nn.Module) -> None:
    """Refuse a model with hooks on layers that the merged one lacks."""
    hooked, kept = ([name for name, module in net.named_modules() if has_hooks(module)] for net in (model, merged))
    lost = [repr(name) for name in hooked if name not in kept]
    if lost:
        raise ValueError(
            f"`model` must have no hooks on layers that are merged with others, got some on {', '.join(lost)}. "
            "Remove them first."
        )


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


def fold_masks(model: nn.Module) -> nn.Module:
    """Replace the layers with masks by plain convolutions, in place; unlike `lp_merge`, merge and note nothing else.

    Args:
        model: A network.

    Returns:
        The network, another module where it is a layer with masks itself.
    """
    masked = [module for module in model.modules() if isinstance(module, LpConv2d)]
    return _replace(model, {module: module.to_conv2d() for module in masked})


def _replace(model: nn.Module, replacements: dict[nn.Conv2d, nn.Conv2d]) -> nn.Module:
    """Put the new layers where the old ones are, under every name that they have there."""
    if model in replacements:
        return replacements[model]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replacements:
                setattr(parent, name, replacements[child])
    return model


def _leave_unmerged(model: nn.Module, replaced: set[nn.Conv2d]) -> None:
    """Keep blocks from merging their own branches for deployment.

    timm's `reparameterize_model` asks a block before the layers in it, and a block reads the kernels as it made them:
    of their old size and without masks. Its layers are then folded one by one.
    """
    for module in model.modules():
        if getattr(module, "merges_lp_conv2d", False) or isinstance(module, LpConv2d):
            continue
        if any(child in replaced for child in module.modules()):
            for name in _merges(module):
                setattr(module, name, partial(_stay, module))


def _merge_blocks(model: nn.Module) -> None:
    """Do what timm's `reparameterize_model` does, which fails where an attribute of another kind has such a name."""
    for name, child in model.named_children():
        for merge in [*_merges(child).values()][:1]:
            merged = merge()
            if isinstance(merged, nn.Module):
                setattr(model, name, merged)
        _merge_blocks(child)


def _merges(module: nn.Module) -> dict[str, Callable[[], Any]]:
    """Return the methods with which a block merges its layers: with timm's names, and without arguments."""
    methods: dict[str, Any] = {name: getattr(module, name, None) for name in _MERGES}
    return {name: method for name, method in methods.items() if _takes_nothing(method)}


def _takes_nothing(method: Any) -> bool:
    """Tell whether a method can be called without arguments."""
    if not callable(method) or isinstance(method, nn.Module):
        return False
    try:
        inspect.signature(method).bind()
    except TypeError:
        return False
    return True


def _stay(module: nn.Module) -> nn.Module:
    return module
