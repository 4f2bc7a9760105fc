"""The command lines of the hub."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from timm_lp.command import CommandLine, parse_subcommand
from timm_lp.settings import SEEDS, Settings, default, setting

PROGRAM = "timm-lp hub"

# What timm's factory takes for itself, or what points to other files.
NO_MODEL_ARGS = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "features_only", "feature_cfg"),
    *("scriptable", "exportable", "no_jit", "device", "dtype", "model_name", "pruned"),
}
_MAX_SHOWN = 100  # letters of an argument
# What a run's networks do not share, or what a collection cannot hold.
_OF_ONE = ("checkpoint", "model_args", "merged", "label_names", "results", "speed", "revision", "create_pr", "tag")
_NETWORK = "a staged folder, or what every command takes: a name, hf-hub:ORG/NAME, a folder, a trial, a file of weights"


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


@dataclass(frozen=True, kw_only=True)
class CodeSettings(Settings):
    """Whose code builds the network."""

    code: str | None = setting(
        None,
        "the class or function that builds the network, if it is not timm's; it is imported and run, so trust it",
        str,
        metavar="MODULE:NAME",
    )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(CodeSettings):
    """Which network, and what its card says."""

    network: str = setting(MISSING, _NETWORK, str, positional=True)
    checkpoint: str | None = setting(None, "weights for the name, .safetensors or .pth", str)
    model_args: dict[str, Any] = setting({}, "for timm.create_model", metavar="JSON", parse=_model_args)
    merged: bool = setting(False, "fold the masks into plain convolutions")
    label_names: str | None = setting(None, "names of the classes, one a line", str, metavar="FILE")
    results: str | None = setting(
        None, "a trial's or a run's folder, or a trial.json, for another network's card", str, metavar="TRIAL"
    )
    speed: str | None = setting(None, "results.json of `timm-lp bench`, for the card", str, metavar="FILE")
    license: str | None = setting(
        None, "the network's licence; if not given, that of the weights which its training recorded, or none", str
    )
    base_model: str | None = setting(
        None, "the repository that it was made from; likewise if not given", str, metavar="OWNER/NAME"
    )


@dataclass(frozen=True, kw_only=True)
class StageSettings(NetworkSettings):
    """Where the network is written."""

    folder: str = setting(MISSING, "new or empty", str, positional=True)


@dataclass(frozen=True, kw_only=True)
class VerifySettings(CodeSettings):
    """What is checked."""

    folder: str = setting(MISSING, "a staged folder", str, positional=True)


@dataclass(frozen=True, kw_only=True)
class PushSettings(NetworkSettings):
    """Where the network is published."""

    repo_id: str = setting(MISSING, "OWNER/NAME; made if there is none", str, positional=True, metavar="repo")
    revision: str = setting("main", "made if there is none", metavar="BRANCH")
    private: bool = setting(False, "make a new repository private")
    create_pr: bool = setting(False, "open a pull request instead")
    tag: str | None = setting(None, "a new tag for the commit", str)
    dry_run: bool = setting(False, "print what would be uploaded, and upload nothing")
    collection: bool = setting(
        False,
        "publish the run whose folder the network names: a repository OWNER/NAME-<variant>-seed<seed> for each trial, "
        "their collection, and the results as a data set; the same command goes on after a failure",
    )
    seed: int | None = setting(
        None, "with --collection: the networks of this seed alone, OWNER/NAME-<variant>", int, SEEDS
    )

    def check_together(self) -> None:
        """Refuse what does not go with a collection, or without one."""
        if self.seed is not None and not self.collection:
            raise ValueError(f"`seed` must be used with --collection, got {self.seed}. Name the trial's folder.")
        given = [f"--{option.name.replace('_', '-')}" for option in fields(self) if self._is_given(option)]
        if given and self.collection:
            raise ValueError(
                f"`collection` must be used without settings of a single network, got {', '.join(given)}. Leave them "
                "out."
            )

    def _is_given(self, option: Field[Any]) -> bool:
        return option.name in _OF_ONE and getattr(self, option.name) != default(option)


@dataclass(frozen=True, kw_only=True)
class PullSettings(CodeSettings):
    """What is brought here, and where to."""

    repo_id: str = setting(MISSING, "OWNER/NAME", str, positional=True, metavar="repo")
    revision: str | None = setting(None, "branch, tag or commit; main if not given", str)
    folder: str | None = setting(None, "new or empty; the Hub's cache if not given", str)


@dataclass(frozen=True)
class ListSettings(Settings):
    """Whose networks are listed."""

    author: str | None = setting(None, "only those of this user or organization", str)


@dataclass(frozen=True)
class CardsSettings(Settings):
    """Where the cards are."""

    check: bool = setting(False, "write nothing, and fail if a card is not current")
    folder: str | None = setting(None, "default: model_cards", str)


def _command(name: str, settings: type[Settings], summary: str) -> CommandLine[Any]:
    return CommandLine(f"{PROGRAM} {name}", settings, summary=summary, takes_recipe=False)


_LINES = (
    _command("stage", StageSettings, "write a network into a folder as it is published"),
    _command("verify", VerifySettings, "check a folder: its files, its tensors, what it computes"),
    _command("push", PushSettings, "publish a network, and verify what is there then"),
    _command("pull", PullSettings, "bring a network here, verified, and print its folder"),
    _command("list", ListSettings, "list the networks on the Hub"),
    _command("cards", CardsSettings, "write a card for each architecture, in a clone of the repository"),
)
COMMANDS = {line.program.split()[-1]: line for line in _LINES}


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[str, Any]:
    """Return which command a command line names, and its settings.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    return parse_subcommand(PROGRAM, "Publish networks, and bring them back, verified.", COMMANDS, arguments)
