"""The flags of `timm-lp-hub`."""

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

# What timm's factory takes for itself, or what points to other files.
NO_MODEL_ARGS = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "features_only", "feature_cfg"),
    *("scriptable", "exportable", "no_jit", "device", "dtype", "model_name", "pruned"),
}
_MAX_SHOWN = 100  # letters of an argument
_NETWORK = "a staged folder, or what every command takes: a name, hf-hub:ORG/NAME, a folder, a trial, a file of weights"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of a command line.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    return _parser().parse_args(arguments)


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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("stage", help="write a network into a folder as it is published")
    _add_network(command)
    command.add_argument("folder", help="new or empty")

    command = commands.add_parser("verify", help="check a folder: its files, its tensors, what it computes")
    command.add_argument("folder")

    command = commands.add_parser("push", help="publish a network, and verify what is there then")
    _add_network(command)
    command.add_argument("repo_id", metavar="repo", help="OWNER/NAME; made if there is none")
    command.add_argument("--revision", default="main", metavar="BRANCH", help="made if there is none")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--tag", help="a new tag for the commit")
    command.add_argument("--dry-run", action="store_true", help="print what would be uploaded, and upload nothing")

    command = commands.add_parser("pull", help="bring a network here, verified, and print its folder")
    command.add_argument("repo_id", metavar="repo", help="OWNER/NAME")
    command.add_argument("--revision", help="branch, tag or commit; main if not given")
    command.add_argument("--folder", help="new or empty; the Hub's cache if not given")

    command = commands.add_parser("list", help="list the networks on the Hub")
    command.add_argument("--author", help="only those of this user or organization")

    command = commands.add_parser("cards", help="write a card for each architecture, in a clone of the repository")
    command.add_argument("--check", action="store_true", help="write nothing, and fail if a card is not current")
    command.add_argument("--folder", help="default: model_cards")
    return parser


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument("network", help=_NETWORK)
    command.add_argument("--checkpoint", help="weights for the name, .safetensors or .pth")
    command.add_argument("--model-args", type=_model_args, default={}, metavar="JSON", help="for timm.create_model")
    command.add_argument("--merged", action="store_true", help="fold the masks into plain convolutions")
    command.add_argument("--label-names", metavar="FILE", help="names of the classes, one a line")
    command.add_argument(
        "--results", metavar="TRIAL", help="a trial's or a run's folder, or a trial.json, for another network's card"
    )
    command.add_argument("--speed", metavar="FILE", help="results.json of `timm-lp bench`, for the card")
    command.add_argument(
        "--license",
        help="the network's licence; if not given, that of the weights which its training recorded, or none",
    )
    command.add_argument(
        "--base-model", metavar="OWNER/NAME", help="the repository that it was made from; likewise if not given"
    )
