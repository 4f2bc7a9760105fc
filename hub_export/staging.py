"""Stage a network as a folder that the Hub, timm and transformers understand."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import nn

from timm_lp import LpConv2d
from timm_lp.merge import copy_network, fold_masks
from timm_lp.models.loading import UnreachableError, create_model
from timm_lp.models.saving import what_differs
from timm_lp.models.user_networks import built_by, registered_name
from timm_lp.reporting import listed
from timm_lp.start import Start, pretrained_start
from timm_lp.trials.networks import Subject, find_networks

from .cards.card import draw_masks, render_card, trials_of
from .cards.evaluation import Trials
from .cards.provenance import base_weights
from .cards.records import read_speed, read_trials
from .cards.templates import parse_name
from .errors import HubError, VerificationError, clear_errors, first_line, naming
from .files import CARD, CONFIG, MASKS, RESULTS, WEIGHTS, check_new_folder, new_folder
from .finite import check_weight_numbers, finite_logits
from .sudoku import stage_sudoku
from .untrusted import BUILD_ERRORS, check_weights, clear_build_errors
from .verification import write_manifest

_logger = logging.getLogger(__name__)

_MASK_ARGS = frozenset({"p_init", "trainable_mask", "preserve"})
_LONGEST = 300  # letters of a reason; safetensors lists every weight that several layers share
# What timm's configuration says of the weights that it knows, not of the network.
_OF_WEIGHTS = ("tag", "origin_url", "paper_ids", "description", "notes")


def stage(
    model: nn.Module | str | Path,
    folder: str | Path,
    *,
    merged: bool = False,
    label_names: Sequence[str] | None = None,
    results: str | Path | None = None,
    speed: str | Path | None = None,
    license: str | None = None,
    base_model: str | None = None,
    benchmark: str | None = None,
) -> Path:
    """Write a network into a folder as it is published: weights, configuration, card, and a manifest to check them by.

    Args:
        model: A network that `timm.create_model` built, or what names one: see `timm_lp.trials.networks.FORMS`. The
            card of a trial's network shows its results, and those of its run that are comparable. Of a Sudoku network,
            its folder; it takes no option but `license`.
        folder: New or empty.
        merged: Whether to publish the form for deployment, in which the masks are folded into plain convolutions; it
            loads as the `large_` network, without the masks.
        label_names: Names of the classes, in the order of the logits; None for those that the model has, if any.
        results: The trials that the card shows: a trial's folder, its `trial.json`, or the folder of a run; None for
            those of the model's own trial, if it is one's. Of local paths in them only the last part is published.
        speed: The `results.json` of `timm-lp bench`, whose times of this network the card shows.
        license: The network's licence, an identifier of the Hub's or another name; None for that of the weights that
            its training started from, where that is recorded.
        base_model: The repository on the Hub of the network that it was made from, `owner/name`; None for what its
            training recorded.
        benchmark: What the card says of the run that the network belongs to, as Markdown; `push_run` gives it.

    Returns:
        The folder.

    Raises:
        FileExistsError: If something is in the folder.
        HubError: If a named network's weights cannot be had.
        OSError: If the folder cannot be written. Nothing of it is left behind, as after every other error.
        VerificationError: If a folder holds no whole network, or a hostile configuration.
        ValueError: If the model is none that timm can build again, or not one alone, its weights are not finite
            float32 numbers, or names, results, times, `license` or `base_model` are not in their form.
    """
    folder = Path(folder).expanduser()
    check_new_folder(folder)
    named = None if isinstance(model, nn.Module) else _find(model)
    if named is not None and named.is_sudoku:
        others = {"merged": merged, "label_names": label_names, "results": results, "speed": speed}
        _refuse({**others, "base_model": base_model}, named.name)
        return stage_sudoku(named, folder, license, benchmark)
    source = named.path if results is None and named and named.record else results
    trials = Trials() if source is None else read_trials(source)
    times = None if speed is None else read_speed(speed)
    network = _ready(copy_network(model) if named is None else _load(named))
    name, names = _published_name(network, merged), _label_names(network, label_names)
    if times:
        times.check_has(_published_name(network, False))
    trials = trials_of(network, trials, merged)
    base = base_weights(network, trials.start or _named_start(named, network), license, base_model)
    if merged:
        network = fold_masks(network)  # so that `large_` loads it
    logits = finite_logits(network, name)
    with new_folder(folder) as partial:
        _save(network, partial, folder, name)
        timm_weights = base.recorded and base.kind in ("hub", "url")
        _finish_config(partial / CONFIG, names, merged, timm_weights, base.own_license)
        _check_rebuilds(network, partial, name)
        if trials.records or times:
            content = trials.content | ({"speed": times.content} if times else {})
            (partial / RESULTS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        card = render_card(
            network,
            merged=merged,
            label_names=names,
            trials=trials,
            base=base,
            speed=times,
            masks_image=MASKS if draw_masks(network, partial / MASKS) else None,
            benchmark=benchmark,
        )
        (partial / CARD).write_text(card, encoding="utf-8")
        write_manifest(partial, network, logits)
    _logger.info("Staged %s in %s.", name, folder)
    return folder


def _find(model: str | Path) -> Subject:
    """Return the one network that a name, a folder or a file stands for."""
    networks = find_networks([str(model)], see_images=False).networks
    if len(networks) > 1:
        names = listed(network.name for network in networks)
        raise ValueError(f"`model` must be one network, got {str(model)!r}, the folder of {names}. Name one of them.")
    return networks[0]


def _refuse(options: dict[str, Any], name: str) -> None:
    """Refuse options that a Sudoku network does not take."""
    if given := [option for option, value in options.items() if value]:
        raise ValueError(f"`{given[0]}` must be left out with a Sudoku network, got it with {name}.")


def _load(subject: Subject) -> nn.Module:
    """Return a network whose configuration anybody may have written: nothing is built before it is checked."""
    if subject.path is None:
        try:
            return fetch_network(registered_name(subject.name))
        except HubError:
            raise
        except BUILD_ERRORS as error:  # an unknown tag, no weights, or a repository's configuration
            raise ValueError(
                f"`model` must be a name with weights, got {subject.name!r}: {first_line(error)}."
            ) from error
    is_file = subject.path.is_file()
    with naming(subject.path):
        check_weights(subject.path.parent if is_file else subject.path, subject.path if is_file else None)
        with clear_build_errors():
            return subject.load()


def _ready(network: Any) -> Any:
    """Return a network as it is published: on the CPU, contiguous and in evaluation mode.

    Raises:
        ValueError: If timm did not build it, or its weights are not finite float32 numbers.
    """
    if not (getattr(network, "pretrained_cfg", None) or {}).get("architecture") or not hasattr(network, "num_classes"):
        raise ValueError(
            f"`model` must be built by timm.create_model, got {type(network).__name__} without a `pretrained_cfg` and "
            "`num_classes`. Take the network out of its wrapper."
        )
    check_weight_numbers(network)
    return network.cpu().to(memory_format=torch.contiguous_format).eval()


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


def _named_start(subject: Subject | None, network: Any) -> Start | None:
    """Return the weights that a name stands for, which were just loaded; None for a network, a folder or a file."""
    if subject is None or subject.path is not None:
        return None
    start = pretrained_start(network.pretrained_cfg)
    # A licence in somebody's configuration may be a copy of what timm says of other weights.
    is_from_hub = network.pretrained_cfg.get("source") == "hf-hub"
    return replace(start, license=None) if start and is_from_hub else start


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


def _published_name(network: Any, merged: bool) -> str:
    """Return the name under which timm builds the network again."""
    name = parse_name(network.pretrained_cfg["architecture"])
    if not merged:
        return name.name
    if not any(isinstance(module, LpConv2d) for module in network.modules()):
        raise ValueError(f"`merged` must be False for a network without masks, got True for {name.name}.")
    return f"large_{name.architecture}"


def _save(network: nn.Module, folder: Path, target: Path, name: str) -> None:
    try:
        save_for_hf(
            network,
            str(folder),
            model_config={**built_by(network), "pretrained_cfg": {"architecture": name}},
            safe_serialization=True,
        )
    except SafetensorError as error:
        raise OSError(f"{target} cannot be written: {error}.") from error
    except BUILD_ERRORS as error:
        raise ValueError(
            f"`model` must have a configuration that timm can save, got {name} with {type(error).__name__}: "
            f"{shorten(first_line(error), _LONGEST)}."
        ) from error
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors lets nobody else read, whatever the umask


def _finish_config(
    path: Path, label_names: list[str] | None, merged: bool, timm_weights: bool, license: str | None
) -> None:
    """Change timm's configuration into one that transformers loads too, and that is true of these weights.

    Args:
        path: The config.json.
        label_names: Names of the classes, in the order of the logits; or None.
        merged: Whether the saved network has no masks, and takes no arguments for them.
        timm_weights: Whether training started from the weights that timm's configuration is about.
        license: The weights' licence, None where it is not known.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    # transformers passes `num_classes` itself, and timm takes the one at the root.
    dropped = {"num_classes", *(_MASK_ARGS if merged else ())}
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key not in dropped}
    if merged and "conversion" in arguments:
        note = arguments["conversion"]
        arguments["conversion"] = {**{key: note[key] for key in ("layers", "kernel_scale")}, "masked": False}
    config["model_args"] = arguments
    for key in ("label_names", "license", *(() if timm_weights else _OF_WEIGHTS)):
        config["pretrained_cfg"].pop(key, None)
    if license is not None:
        config["pretrained_cfg"]["license"] = license
    config.pop("label_names", None)
    if label_names is not None:
        config["label_names"] = label_names
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _check_rebuilds(network: nn.Module, folder: Path, name: str) -> None:
    try:
        check_weights(folder)
        difference = what_differs(network, folder)
    except VerificationError as error:
        difference = str(error)
    if difference:
        raise ValueError(
            f"`model` must be what timm.create_model({name!r}) builds with its arguments, got another: {difference}"
        )
