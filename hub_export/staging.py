"""Stage a network as a folder that the Hub, timm and transformers understand."""

import copy
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import nn

from timm_lp import LpConv2d
from timm_lp.files import check_trial_folder
from timm_lp.masks.overview import draw_overview
from timm_lp.masks.statistics import layer_masks
from timm_lp.models.loading import UnreachableError, create_model
from timm_lp.start import Start, pretrained_start

from .cards.card import render_card
from .cards.naming import parse_name
from .cards.provenance import base_weights
from .cards.results import Results, parse_results, read_results
from .config import check_config, finish_config
from .errors import HubError, VerificationError, clear_errors, first_line, naming
from .files import CARD, CONFIG, MASKS, RESULTS, WEIGHTS, check_new_folder, new_folder
from .reference import reference_logits, write_manifest
from .weights import BUILD_ERRORS, check_weights, clear_build_errors

_logger = logging.getLogger(__name__)

_MASK_ARGS = frozenset({"p_init", "trainable_mask", "preserve"})
_KEPT_TYPES = (torch.float32, torch.int64)


def stage(
    model: nn.Module | str | Path,
    folder: str | Path,
    *,
    merged: bool = False,
    label_names: Sequence[str] | None = None,
    results: dict[str, Any] | str | Path | None = None,
    license: str | None = None,
    base_model: str | None = None,
) -> Path:
    """Write a network into a folder as it is published: weights, configuration, card, and a manifest to check them by.

    Args:
        model: A network that `timm.create_model` built, a folder that timm saved one in (a trial of the few-shot
            benchmark for instance, whose `results.json` is taken too), or a name that timm knows.
        folder: New or empty.
        merged: Whether to publish the form for deployment, in which the masks are folded into plain convolutions; it
            loads as the `large_` network, without the masks.
        label_names: Names of the classes, in the order of the logits; None for those that the model has, if any.
        results: The benchmark's results for the card, as a dictionary or the path of a JSON file. Of local paths in
            them only the last part is published.
        license: The network's licence, an identifier of the Hub's or another name; None for that of the weights that
            its training started from, where that is recorded.
        base_model: The repository on the Hub of the network that it was made from, `owner/name`; None for what its
            training recorded.

    Returns:
        The folder.

    Raises:
        FileExistsError: If something is in the folder.
        HubError: If a named network's weights cannot be had.
        OSError: If the folder cannot be written. Nothing of it is left behind, as after every other error.
        VerificationError: If a folder holds no whole network, or a hostile configuration.
        ValueError: If the model is none that timm can build again, its weights are not finite float32 numbers, or
            names, results, `license` or `base_model` are not in their form, or a trial's folder has another's name.
    """
    folder = Path(folder).expanduser()
    check_new_folder(folder)
    if not isinstance(model, nn.Module):
        check_trial_folder(Path(model).expanduser())
    if results is None and not isinstance(model, nn.Module) and (Path(model).expanduser() / RESULTS).is_file():
        results = Path(model).expanduser() / RESULTS
    given = None if results is None else _results(results)
    network = load_network(model)
    told = given or Results()
    if told.recipe.start is None:
        told = replace(told, recipe=replace(told.recipe, start=_named_start(model, network)))
    names = _label_names(network, label_names)
    name = _published_name(network, merged)
    base = base_weights(network, told.recipe.start, license, base_model)
    if merged:
        _fold_masks(network)
    logits = _logits(network, name)
    if not all(math.isfinite(logit) for logit in logits):
        raise ValueError(f"`model` must compute finite numbers, got {name} that gives nan or inf. Train it again.")
    with new_folder(folder) as partial:
        _save(network, partial, folder, name)
        dropped = _MASK_ARGS if merged else frozenset()
        timm_weights = base.recorded and base.kind in ("hub", "url")
        finish_config(partial / CONFIG, names, dropped, timm_weights, base.own_license)
        _check_rebuilds(partial, name)
        if given is not None:
            (partial / RESULTS).write_text(json.dumps(given.content, indent=2) + "\n", encoding="utf-8")
        image = MASKS if _draw(network, partial / MASKS) else None
        card = render_card(
            network,
            merged=merged,
            label_names=names,
            results=told,
            masks_image=image,
            license=license,
            base_model=base_model,
        )
        (partial / CARD).write_text(card, encoding="utf-8")
        write_manifest(partial, network, logits)
    _logger.info("Staged %s in %s.", name, folder)
    return folder


def load_network(model: nn.Module | str | Path) -> nn.Module:
    """Return a copy of a network for publishing: on the CPU, contiguous and in evaluation mode.

    Args:
        model: As `stage` takes it.

    Raises:
        ValueError: If there is no such network, or its weights are not finite float32 numbers.
    """
    network = copy.deepcopy(model) if isinstance(model, nn.Module) else _load(model)
    if not (getattr(network, "pretrained_cfg", None) or {}).get("architecture") or not hasattr(network, "num_classes"):
        raise ValueError(
            f"`model` must be built by timm.create_model, got {type(network).__name__} without a `pretrained_cfg` and "
            "`num_classes`. Take the network out of its wrapper."
        )
    for name, tensor in network.state_dict().items():
        if tensor.dtype not in _KEPT_TYPES or tensor.is_meta:
            kind = "no data" if tensor.is_meta else tensor.dtype
            raise ValueError(f"`model` must have float32 weights, got {kind} in {name}. Convert it with model.float().")
        if not tensor.isfinite().all():
            raise ValueError(f"`model` must have finite weights, got nan or inf in {name}. Train it again.")
    return network.cpu().to(memory_format=torch.contiguous_format).eval()


def _load(model: str | Path) -> nn.Module:
    folder = Path(model).expanduser()
    if (folder / CONFIG).is_file():
        with naming(folder):
            check_config(folder)
            check_weights(folder)
            with clear_build_errors():
                return timm.create_model(f"local-dir:{folder}", pretrained=True)
    source, _, rest = str(model).partition(":")
    if (source == "hf-hub" and rest) or timm.is_model(str(model).partition(".")[0]):
        try:
            return fetch_network(str(model))
        except HubError:
            raise
        except RuntimeError as error:  # an unknown tag, or no weights
            raise ValueError(f"`model` must be a name with weights, got {model!r}: {first_line(error)}.") from error
    raise ValueError(
        f"`model` must be a network, a folder with config.json and weights, or a name that timm knows, got {model!r}. "
        "timm.list_models('lp*') lists ours."
    )


def fetch_network(name: str, **arguments: Any) -> nn.Module:
    """Return the network that a name stands for, with its weights.

    Args:
        name: A registered name, or `hf-hub:` and a repository.
        **arguments: Further arguments of `timm.create_model`.

    Raises:
        HubError: If the weights cannot be had.
    """
    repo = name.removeprefix("hf-hub:").partition("@")[0]
    try:
        with clear_errors(constants.ENDPOINT, repo, None):
            return create_model(name, advice="give a folder or --checkpoint", pretrained=True, **arguments)
    except UnreachableError as error:
        raise HubError(str(error)) from error


def _named_start(model: nn.Module | str | Path, network: Any) -> Start | None:
    """Return the weights that a name stands for, which were just loaded; None for a network or a folder."""
    source = network.pretrained_cfg.get("source")
    start = None if isinstance(model, nn.Module) or source == "local-dir" else pretrained_start(network.pretrained_cfg)
    # A licence in somebody's configuration may be a copy of what timm says of other weights.
    return replace(start, license=None) if start and source == "hf-hub" else start


def _label_names(network: Any, given: Sequence[str] | None) -> list[str] | None:
    known = network.pretrained_cfg.get("label_names")
    if given is None and known and len(known) == network.num_classes:
        return list(known)
    if given is None:
        return None
    if isinstance(given, str) or not all(isinstance(name, str) for name in given) or len(given) != network.num_classes:
        got = repr(given) if isinstance(given, str) else f"{len(given)}"
        raise ValueError(f"`label_names` must be {network.num_classes} names, one for each class, got {got}.")
    return list(given)


def _results(results: dict[str, Any] | str | Path) -> Results:
    return read_results(Path(results).expanduser()) if isinstance(results, (str, Path)) else parse_results(results)


def _published_name(network: Any, merged: bool) -> str:
    """Return the name under which timm builds the network again."""
    name = parse_name(network.pretrained_cfg["architecture"])
    if not merged:
        return name.name
    if not any(isinstance(module, LpConv2d) for module in network.modules()):
        raise ValueError(f"`merged` must be False for a network without masks, got True for {name.name}.")
    return f"large_{name.architecture}"


def _logits(network: nn.Module, name: str) -> list[float]:
    try:
        return reference_logits(network)
    except BUILD_ERRORS as error:
        raise ValueError(
            f"`model` must run on an image of the size in its configuration, got {name} with {type(error).__name__}: "
            f"{first_line(error)}."
        ) from error


def _fold_masks(network: nn.Module) -> None:
    """Replace the layers with masks by plain ones; unlike timm's merging, nothing else, so that `large_` loads it."""
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if isinstance(module, LpConv2d):
            network.set_submodule(name, module.to_conv2d())


def _save(network: nn.Module, folder: Path, target: Path, name: str) -> None:
    try:
        save_for_hf(
            network, str(folder), model_config={"pretrained_cfg": {"architecture": name}}, safe_serialization=True
        )
    except SafetensorError as error:
        raise OSError(f"{target} cannot be written: {error}.") from error
    except BUILD_ERRORS as error:
        raise ValueError(
            f"`model` must have a configuration that timm can save, got {name} with {type(error).__name__}: "
            f"{first_line(error)}."
        ) from error
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets nobody else read, whatever the umask


def _check_rebuilds(folder: Path, name: str) -> None:
    try:
        check_weights(folder)
    except VerificationError as error:
        raise ValueError(
            f"`model` must be what timm.create_model({name!r}) builds with its arguments, got another: {error}"
        ) from error


def _draw(network: nn.Module, path: Path) -> bool:
    """Draw the masks if there are any, and tell whether that was done."""
    if not any(isinstance(module, LpConv2d) for module in network.modules()):
        return False
    try:
        draw_overview(layer_masks(network), path)
    except ImportError as error:
        _logger.warning("The card gets no picture of the masks: %s. Install timm-lp[hub] for it.", error)
        return False
    return True
