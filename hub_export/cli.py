"""The command line of the hub: `timm-lp-hub`."""

import logging
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any
from zipfile import BadZipFile

import timm
import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from timm_lp.models import register_network

from .cards import architectures
from .download import list_networks, pull
from .errors import HubError, VerificationError
from .files import find_staged
from .flags import (
    COMMANDS,
    CardsSettings,
    ListSettings,
    NetworkSettings,
    PullSettings,
    PushSettings,
    StageSettings,
    VerifySettings,
    parse_arguments,
)
from .run import find_run
from .run_upload import staged_run
from .staging import fetch_network, stage
from .untrusted import BUILD_ERRORS
from .upload import preview, push
from .verification import verify

_READ_ERRORS = (*BUILD_ERRORS, BadZipFile, EOFError, OSError, SafetensorError, UnpicklingError, struct.error)
_OF_STAGING = ("merged", "label_names", "results", "speed", "checkpoint", "model_args", "license", "base_model")
_MAX_REASON = 300  # letters; torch lists every weight that does not fit


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If it fails; the message says why.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hub_export").setLevel(logging.INFO)
    hub_logging.disable_propagation()  # it prints its warnings itself
    name, options = parse_arguments(arguments)
    try:
        if code := getattr(options, "code", None):
            register_network(code)
        _RUN[name](options)
    except (HubError, VerificationError, ValueError, OSError) as error:
        sys.exit(f"{COMMANDS[name].program}: {_message(error)}")
    except KeyboardInterrupt as error:
        sys.exit(f"{COMMANDS[name].program}: interrupted. {error}".rstrip())


def _message(error: Exception) -> str:
    """Return what an error says on one line; the system's own errors say it with their file's name first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split())


def _stage(options: StageSettings) -> None:
    folder = _staged(options, Path(options.folder))
    verify(folder)
    print(folder)


def _verify(options: VerifySettings) -> None:
    verify(options.folder)
    print(f"{options.folder} is whole: its files, tensors and logits are those that were staged.")


def _push(options: PushSettings) -> None:
    if options.collection:
        _push_run(options)
        return
    with tempfile.TemporaryDirectory() as work:
        network = find_staged(options.network)
        if network is None:
            network = _staged(options, Path(work) / "staged")
        elif any(getattr(options, name) for name in _OF_STAGING):
            raise ValueError(
                f"`network` must not be staged with these options, got {options.network!r}. Stage it anew."
            )
        if options.dry_run:
            _print_preview(network, options)
            return
        commit = push(network, options.repo_id, **_target(options))
    print(commit.pr_url or commit.commit_url)


def _target(options: PushSettings) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("revision", "private", "create_pr", "tag")}


def _print_preview(network: Path, options: PushSettings) -> None:
    files = preview(network, options.repo_id, **_target(options))
    _print_files(files)
    if all(state == "same" for _, state in files.values()):
        print(f"Nothing to upload: {options.repo_id} has this network already.")
        return
    where = "a pull request" if options.create_pr else options.revision
    print(f"Nothing was uploaded; without --dry-run it goes to {options.repo_id}, {where}.")


def _push_run(options: PushSettings) -> None:
    run = find_run(options.network, options.repo_id, options.seed)
    with staged_run(run, options.license, options.base_model) as staged:
        plan = staged.preview(private=options.private)
        if not options.dry_run:
            print(staged.push(private=options.private).url)
            return
    for repo_id, files in plan.files.items():
        print(f"{repo_id}:")
        _print_files(files)
    print(f"Collection {options.repo_id}:")
    for repo_id, (state, note) in plan.items.items():
        print(f"{state:8} {repo_id}: {note}")
    print("Nothing was uploaded; without --dry-run the run goes to these repositories and their collection.")


def _print_files(files: dict[str, tuple[int, str]]) -> None:
    for name, (size, state) in files.items():
        print(f"{state:8} {size:>12,} bytes  {name}")


def _pull(options: PullSettings) -> None:
    print(pull(options.repo_id, revision=options.revision, folder=options.folder))


def _list(options: ListSettings) -> None:
    for network in list_networks(options.author):
        print(f"{network.id}{' (private)' if network.private else ''}")


def _cards(options: CardsSettings) -> None:
    folder = Path(options.folder or architectures.CARDS)
    if not folder.is_dir():
        raise ValueError(f"--folder must be a folder, got {str(folder)!r}. Run this in a clone of the repository.")
    if not options.check:
        architectures.write_cards(folder)
    elif stale := architectures.stale_cards(folder):
        raise ValueError(f"these cards are not current: {', '.join(stale)}. Run `timm-lp-hub cards`.")


def _staged(options: NetworkSettings, folder: Path) -> Path:
    names = _read_names(Path(options.label_names)) if options.label_names else None
    return stage(
        _network(options),
        folder,
        merged=options.merged,
        label_names=names,
        results=options.results,
        speed=options.speed,
        license=options.license,
        base_model=options.base_model,
    )


def _read_names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"--label-names must be a text file in UTF-8, got {str(path)!r}: {error}.") from error


def _network(options: NetworkSettings) -> nn.Module | str:
    arguments, checkpoint = options.model_args, options.checkpoint
    if checkpoint is not None:
        if not timm.is_model(options.network.partition(".")[0]):
            raise ValueError(f"`network` must be a name that timm knows with --checkpoint, got {options.network!r}.")
        if not Path(checkpoint).is_file():
            raise ValueError(f"--checkpoint must be a file, got {checkpoint!r}.")
        overlay = {"file": checkpoint, "num_classes": arguments.get("num_classes", 1000)}
        arguments = {**arguments, "pretrained_cfg_overlay": overlay}
    if not arguments:
        return options.network
    try:
        return fetch_network(options.network, **arguments)
    except HubError:
        raise
    except _READ_ERRORS as error:  # an unknown name, other or no weights, arguments that it does not take
        raise ValueError(_fault(options, error)) from error


def _fault(options: NetworkSettings, error: Exception) -> str:
    """Return which option is why a network could not be built."""
    if options.checkpoint is not None:
        try:
            load_state_dict(options.checkpoint)
        except _READ_ERRORS as unreadable:
            return f"--checkpoint must be a file of weights, got {options.checkpoint!r}: {_reason(unreadable)}"
        try:
            with torch.device("meta"):
                timm.create_model(options.network, **options.model_args)
        except _READ_ERRORS as unbuilt:
            error = unbuilt
        else:
            return f"--checkpoint must fit {options.network}, got {options.checkpoint!r}: {_reason(error)}"
    return f"{options.network} cannot be built with these arguments: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Return what an error says on one line, with its type where that alone is telling."""
    text, kind = shorten(str(error), _MAX_REASON, placeholder=" ..."), type(error).__name__
    return text if isinstance(error, (OSError, RuntimeError, ValueError)) and text else f"{kind}: {text}"


_RUN: dict[str, Callable[[Any], None]] = {
    "stage": _stage,
    "verify": _verify,
    "push": _push,
    "pull": _pull,
    "list": _list,
    "cards": _cards,
}
