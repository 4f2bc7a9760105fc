"""Load what exists into a converted model: timm's weights, our own, and the authors' (one filter for all three)."""

import argparse
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ..layers import LpConv2d, embed_kernel, large_kernel_size
from ..reporting import listed

StateDict = dict[str, Tensor]
RenameFn = Callable[[StateDict], StateDict]

_MASK_NAMES = ("C", "log2p")
_LISTED = 20
_FIRST = ("state_dict_ema", "model_ema", "state_dict", "model")  # the order in which timm looks for weights in a file
_WRAPPERS = ("_orig_mod", "module", "model", "net", "network")  # of torch.compile, DDP, Lightning and others

_logger = logging.getLogger(__name__)


def read_weights(path: str) -> StateDict:
    """Return the weights in a file that torch or safetensors saved.

    They may lie in a dictionary, under any key if no other one holds weights too.

    Args:
        path: The file.

    Raises:
        ValueError: If there are no weights, or those of several networks; the message names the keys.
        OSError: If the file cannot be read.
    """
    try:
        if path.endswith(".safetensors"):
            content: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # training programs keep their arguments
                content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever the readers of zip archives, pickles and safetensors stumble over
        raise _not_weights(path, "It is damaged, or holds other things.") from error
    if _is_weights(content):
        return dict(content)
    if not isinstance(content, Mapping) or not content:
        raise _not_weights(path, f"It holds a {type(content).__name__}.")
    keys = [key for key, value in content.items() if _is_weights(value)]
    chosen = [key for key in _FIRST if key in keys] or keys
    if not chosen:
        raise _not_weights(path, f"It holds {listed(list(map(str, content)))}, and weights under none of them.")
    if chosen[0] not in _FIRST and len(chosen) > 1:
        raise _not_weights(path, f"It holds weights under each of {listed(list(map(str, keys)))}: save one of them.")
    return dict(content[chosen[0]])


def _not_weights(path: str, fault: str) -> ValueError:
    return ValueError(f"Weights must be a network's, in a file that torch or safetensors saved, got {path!r}. {fault}")


def _is_weights(content: Any) -> bool:
    is_full = isinstance(content, Mapping) and len(content) > 0
    return is_full and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def without_prefix(weights: StateDict, names: Collection[str], path: str) -> StateDict:
    """Return weights without the prefix that all of a network's names have: `model.` in Lightning's files.

    It leaves out other weights, such as the loss's or a counter's, with a warning.

    Args:
        weights: The weights.
        names: The names of the network's weights.
        path: The file that they are from, for messages.

    Raises:
        ValueError: If several networks' weights are there.
    """
    wanted = set(names)
    while not wanted & weights.keys():
        head, *others = {key.partition(".")[0] for key in weights}
        if others or head not in _WRAPPERS:
            break
        weights = {key.partition(".")[2]: value for key, value in weights.items()}
    if wanted & weights.keys():
        return weights
    after = Counter(prefix for key in weights if (prefix := _prefix(key, wanted)) is not None)
    prefixes = [prefix for prefix, count in after.items() if count > len(wanted) / 2]
    if len(prefixes) > 1:
        raise _not_weights(path, f"It holds weights under each of {listed(prefixes, _LISTED)}: save one of them.")
    if not prefixes:  # those of another network, or under another library's names
        return weights
    left = [key for key in weights if not key.startswith(prefixes[0])]
    if left:
        _logger.warning("%s: what lies beside the network's weights is left out: %s.", path, listed(left, _LISTED))
    return {key.removeprefix(prefixes[0]): weights[key] for key in weights if key.startswith(prefixes[0])}


def _prefix(key: str, names: Collection[str]) -> str | None:
    """Return what stands before the longest of a network's names that a key ends in."""
    starts = (index + 1 for index, letter in enumerate(key) if letter == ".")
    return next((key[:start] for start in starts if key[start:] in names), None)


def checkpoint_filter_fn(
    state_dict: Mapping[str, Any],
    model: nn.Module,
    *,
    kernel_scale: int = 2,
    preserve: bool = True,
    converted: Collection[str] | None = None,
) -> StateDict:
    """Return a checkpoint as the converted `model` can load it, or refuse it before anything is loaded.

    A checkpoint with masks is ours or the authors' (both name them `C` and `log2p`) and is not changed. One without is
    the base network's, or already "Large": its small kernels are embedded in the centre of the large ones (Figure 3),
    with the masks that the model starts with. Afterwards timm adapts the first convolution to another `in_chans` and
    drops the classifier for another `num_classes`, so neither counts as a difference here.

    Args:
        state_dict: The checkpoint, under timm's names.
        model: The converted model, as `build_model_with_cfg` passes it.
        kernel_scale: With which the model was converted.
        preserve: Whether to divide embedded kernels by their masks, see `LpConv2d.from_conv2d`.
        converted: Names of the layers that were; None for all of the feature extractor.

    Returns:
        A new state dict under the model's names.

    Raises:
        RuntimeError: If keys are missing or unexpected, or shapes differ; the message lists them.
    """
    weights = dict(state_dict)
    if not has_masks(weights):
        weights = _embed(weights, model, kernel_scale, preserve, converted)
    _check(weights, model)
    return weights


def has_masks(state_dict: Mapping[str, Any]) -> bool:
    """Tell whether a checkpoint is of a network with masks."""
    layers = [{key.rpartition(".")[0] for key in state_dict if key.rpartition(".")[2] == name} for name in _MASK_NAMES]
    return bool(set.intersection(*layers))  # a network may have parameters of its own with one of these names


def _embed(
    weights: StateDict, model: nn.Module, kernel_scale: int, preserve: bool, converted: Collection[str] | None
) -> StateDict:
    """Return the base network's weights in large kernels, with the masks that the model has."""
    embedded = dict(weights)
    small = set()
    for fqn, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        weight = weights.get(f"{fqn}.weight")
        # Other weights stay; those that do not fit are listed later.
        if weight is None or weight.ndim != module.weight.ndim or len(weight) != module.out_channels:
            continue
        if large_kernel_size(tuple(weight.shape[2:]), kernel_scale) != module.kernel_size:
            continue
        small.add(fqn)
        if isinstance(module, LpConv2d):
            embedded[f"{fqn}.weight"] = module.embed(weight, preserve=preserve)
            embedded.update({f"{fqn}.{name}": getattr(module, name).detach().cpu() for name in _MASK_NAMES})
        else:
            embedded[f"{fqn}.weight"] = embed_kernel(weight, module.kernel_size)
    if small:
        _check_stem(weights, model, small, converted)
    return embedded


def _check_stem(weights: StateDict, model: nn.Module, small: set[str], converted: Collection[str] | None) -> None:
    """Refuse a stem whose kernel has the size of the large one already, among small kernels: it is another stem's."""
    config: Any = model.pretrained_cfg
    for name in _as_tuple(config.get("first_conv")):
        weight = weights.get(f"{name}.weight")
        if (
            name not in small
            and (converted is None or name in converted)
            and weight is not None
            and weight.shape[2:] == model.get_parameter(f"{name}.weight").shape[2:]
        ):
            raise RuntimeError(
                f"`state_dict` must fit {config.get('architecture') or type(model).__name__}, got the kernel of "
                f"another stem: {name}.weight {tuple(weight.shape)}. Load it into the architecture it was saved from; "
                "nothing was loaded."
            )


def _check(weights: StateDict, model: nn.Module) -> None:
    """Refuse weights that do not fit the model, but for what timm adapts after the filter."""
    config: Any = model.pretrained_cfg
    expected = model.state_dict()
    classifiers = _as_tuple(config.get("classifier"))
    if config.get("num_classes") != model.num_classes:
        expected, weights = _without(expected, classifiers), _without(weights, classifiers)
    missing = [key for key in expected if key not in weights and not key.endswith(".num_batches_tracked")]
    if not config.get("num_classes"):  # weights that were published without a head lack its norm too
        heads = tuple(name.split(".")[0] + "." for name in classifiers)
        missing = [key for key in missing if not key.startswith(heads)]
    unexpected = [key for key in weights if key not in expected]

    stems = {f"{name}.weight" for name in _as_tuple(config.get("first_conv"))}
    differ = []
    for key in expected.keys() & weights.keys():
        have, want = tuple(weights[key].shape), tuple(expected[key].shape)
        if key in stems:  # timm adapts the stem's input channels
            have, want = have[:1] + have[2:], want[:1] + want[2:]
        if have != want:
            differ.append(f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}")

    problems = {"missing keys": missing, "unexpected keys": unexpected, "shapes that differ": sorted(differ)}
    faults = [f"{what}: {listed(keys, _LISTED)}" for what, keys in problems.items() if keys]
    if faults:
        raise RuntimeError(
            f"`state_dict` must fit {config.get('architecture') or type(model).__name__}, got {'; '.join(faults)}. "
            "Load it into the architecture it was saved from; nothing was loaded."
        )


def _without(weights: StateDict, layers: tuple[str, ...]) -> StateDict:
    return {key: value for key, value in weights.items() if key.rpartition(".")[0] not in layers}


def _as_tuple(names: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def rename_torchvision_vgg(weights: StateDict) -> StateDict:
    """Return torchvision's VGG under timm's names: its three linear layers are two convolutions and one linear."""
    if "classifier.0.weight" not in weights:
        return weights
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    kernels = {"classifier.0": 7, "classifier.3": 1}
    return rename_linear_classifier(weights, names, kernels)


def rename_linear_classifier(weights: StateDict, names: Mapping[str, str], kernels: Mapping[str, int]) -> StateDict:
    """Return weights with renamed layers, and linear weights reshaped to convolutions.

    Args:
        weights: The weights.
        names: New name of each layer that gets one.
        kernels: Size of the kernel, pixels, of each linear layer that becomes a convolution.
    """
    renamed = {}
    for key, value in weights.items():
        layer, _, kind = key.rpartition(".")
        if layer in kernels and kind == "weight":
            value = value.reshape(value.shape[0], -1, kernels[layer], kernels[layer])
        renamed[f"{names.get(layer, layer)}.{kind}"] = value
    return renamed


_CONVNEXT_BLOCK = {
    "block.0": "conv_dw",
    "block.2": "norm",
    "block.3": "mlp.fc1",
    "block.5": "mlp.fc2",
    "layer_scale": "gamma",
}


def rename_torchvision_convnext(weights: StateDict) -> StateDict:
    """Return torchvision's ConvNeXt under timm's names: `features` holds stem, stages and downsamplings in turn."""
    if "features.0.0.weight" not in weights:
        return weights

    def rename(key: str) -> str:
        key = re.sub(r"^classifier\.0\.", "head.norm.", key)
        key = re.sub(r"^classifier\.2\.", "head.fc.", key)
        key = re.sub(r"^features\.0\.", "stem.", key)
        if match := re.match(r"^features\.(\d+)\.(\d+)\.(block\.\d|layer_scale)(.*)", key):
            return f"stages.{int(match[1]) // 2}.blocks.{match[2]}.{_CONVNEXT_BLOCK[match[3]]}{match[4]}"
        return re.sub(r"^features\.(\d+)\.", lambda match: f"stages.{int(match[1]) // 2}.downsample.", key)

    return {rename(key): value.flatten() if "layer_scale" in key else value for key, value in weights.items()}
