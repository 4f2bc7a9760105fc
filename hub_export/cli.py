"""The command line of the hub: `timm-lp-hub`."""

import argparse
import json
import logging
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any, NoReturn
from zipfile import BadZipFile

import timm
import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from .cards import architectures
from .config import NO_MODEL_ARGS
from .download import pull
from .errors import HubError, VerificationError
from .files import is_staged
from .listing import list_networks
from .staging import fetch_network, stage
from .upload import preview, push
from .verification import verify
from .weights import BUILD_ERRORS

_READ_ERRORS = (*BUILD_ERRORS, BadZipFile, EOFError, OSError, SafetensorError, UnpicklingError, struct.error)
_OF_STAGING = ("merged", "label_names", "results", "checkpoint", "model_args", "license", "base_model")
_MAX_SHOWN = 100  # letters of an argument
_MAX_REASON = 300  # letters; torch lists every weight that does not fit
_NETWORK = "a staged folder, a folder that timm saved a network in, or a name that timm knows"


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
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (HubError, VerificationError, ValueError, OSError) as error:
        sys.exit(f"timm-lp-hub: {_message(error)}")
    except KeyboardInterrupt:
        sys.exit("timm-lp-hub: interrupted.")


def _message(error: Exception) -> str:
    """Return what an error says on one line; the system's own errors say it with their file's name first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split())


def _stage(options: argparse.Namespace) -> None:
    folder = _staged(options, Path(options.folder))
    verify(folder)
    print(folder)


def _verify(options: argparse.Namespace) -> None:
    verify(options.folder)
    print(f"{options.folder} is whole: its files, tensors and logits are those that were staged.")


def _push(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as work:
        network = Path(options.network).expanduser()
        if not is_staged(network):
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


def _target(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("revision", "private", "create_pr", "tag")}


def _print_preview(network: Path, options: argparse.Namespace) -> None:
    files = preview(network, options.repo_id, **_target(options))
    for name, (size, state) in files.items():
        print(f"{state:8} {size:>12,} bytes  {name}")
    if all(state == "same" for _, state in files.values()):
        print(f"Nothing to upload: {options.repo_id} has this network already.")
        return
    where = "a pull request" if options.create_pr else options.revision
    print(f"Nothing was uploaded; without --dry-run it goes to {options.repo_id}, {where}.")


def _pull(options: argparse.Namespace) -> None:
    print(pull(options.repo_id, revision=options.revision, folder=options.folder))


def _list(options: argparse.Namespace) -> None:
    for network in list_networks(options.author):
        print(f"{network.id}{' (private)' if network.private else ''}")


def _cards(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    if not folder.is_dir():
        raise ValueError(f"--folder must be a folder, got {options.folder!r}. Run this in a clone of the repository.")
    if not options.check:
        architectures.write_cards(folder)
    elif stale := architectures.stale_cards(folder):
        raise ValueError(f"these cards are not current: {', '.join(stale)}. Run `timm-lp-hub cards`.")


def _staged(options: argparse.Namespace, folder: Path) -> Path:
    names = _read_names(Path(options.label_names)) if options.label_names else None
    return stage(
        _network(options),
        folder,
        merged=options.merged,
        label_names=names,
        results=options.results,
        license=options.license,
        base_model=options.base_model,
    )


def _read_names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"--label-names must be a text file in UTF-8, got {str(path)!r}: {error}.") from error


def _network(options: argparse.Namespace) -> nn.Module | str:
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


def _fault(options: argparse.Namespace, error: Exception) -> str:
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


def _model_args(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"must be JSON, got {text[:_MAX_SHOWN]!r}: {error}") from error
    if not isinstance(arguments, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, got {text[:_MAX_SHOWN]!r}")
    if refused := sorted(arguments.keys() & NO_MODEL_ARGS):
        raise argparse.ArgumentTypeError(f"must be arguments of the network, got {', '.join(refused)}")
    return arguments


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the message, and where more is said."""
        self.exit(2, f"timm-lp-hub: error: {message}; see `{self.prog} --help`.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="timm-lp-hub", description="Publish networks, and bring them back, verified.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("stage", help="write a network into a folder as it is published")
    _add_network(command)
    command.add_argument("folder", help="new or empty")
    command.set_defaults(run=_stage)

    command = commands.add_parser("verify", help="check a folder: its files, its tensors, what it computes")
    command.add_argument("folder")
    command.set_defaults(run=_verify)

    command = commands.add_parser("push", help="publish a network, and verify what is there then")
    _add_network(command)
    command.add_argument("repo_id", metavar="repo", help="OWNER/NAME; made if there is none")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="made if there is none")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--tag", help="a new tag for the commit")
    command.add_argument("--dry-run", action="store_true", help="print what would be uploaded, and upload nothing")
    command.set_defaults(run=_push)

    command = commands.add_parser("pull", help="bring a network here, verified, and print its folder")
    command.add_argument("repo_id", metavar="repo", help="OWNER/NAME")
    command.add_argument("--revision", help="branch, tag or commit; main if not given")
    command.add_argument("--folder", help="new or empty; the Hub's cache if not given")
    command.set_defaults(run=_pull)

    command = commands.add_parser("list", help="list the networks on the Hub")
    command.add_argument("--author", help="only those of this user or organization")
    command.set_defaults(run=_list)

    command = commands.add_parser("cards", help="write a card for each architecture, in a clone of the repository")
    command.add_argument("--check", action="store_true", help="write nothing, and fail if a card is not current")
    command.add_argument("--folder", default=str(architectures.CARDS), help="default: %(default)s")
    command.set_defaults(run=_cards)
    return parser


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", help=_NETWORK)
    command.add_argument("--checkpoint", help="weights for the name, .safetensors or .pth")
    command.add_argument("--model-args", type=_model_args, default={}, metavar="JSON", help="for timm.create_model")
    command.add_argument("--merged", action="store_true", help="fold the masks into plain convolutions")
    command.add_argument("--label-names", metavar="FILE", help="names of the classes, one a line")
    command.add_argument("--results", metavar="FILE", help="results.json of the few-shot benchmark, for the card")
    command.add_argument(
        "--license",
        help="the network's licence; if not given, that of the weights which its training recorded, or none",
    )
    command.add_argument(
        "--base-model", metavar="OWNER/NAME", help="the repository that it was made from; likewise if not given"
    )
