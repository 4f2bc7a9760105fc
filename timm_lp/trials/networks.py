"""What a NETWORK of a command line is: a name, a folder, all trials of a run, or a file of weights."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from timm.models import is_model, split_model_name_tag
from torch import nn

from ..command import NETWORK_FORMS
from ..files import TRIAL_FILE, check_trial_folder
from ..models.loading import CONFIG_FILE, FOLDER, HUB, TORCH_WEIGHTS, WEIGHTS_FILE, load_network, load_weights
from ..models.sudoku import ARCHITECTURE as SUDOKU
from ..models.sudoku import load_sudoku
from ..models.user_networks import registered_name, unknown_network
from ..models.variants import split_name
from ..module_path import is_module_path
from ..reporting import listed
from ..variants import BASE
from .folder import no_save_flag, read_records
from .record import TrialRecord, read_record

_WEIGHTS = (WEIGHTS_FILE, TORCH_WEIGHTS)  # beside its configuration; timm takes the first that is there
_LISTED = 5  # names of what a folder holds, in a message
_LONGEST = 300  # letters of a reason; torch lists every weight that does not fit

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network that a command looks at.

    Attributes:
        name: What it is called: a registered name, a name with its source, a folder, or a file.
        path: Its folder, or its file of weights; None where it is not on this disk.
        record: The record of the trial that trained it; None where there is none.
        model: The base network's name; empty where only loading tells it.
        variant: The variant of it.
        seed: The trial's seed; None without a record.
        is_sudoku: Whether it sees Sudoku puzzles and no images.
        is_of_run: Whether the command line names the run's folder, and not this network.
    """

    name: str
    path: Path | None = None
    record: TrialRecord | None = None
    model: str = ""
    variant: str = BASE
    seed: int | None = None
    is_sudoku: bool = False
    is_of_run: bool = False

    def load(self, **arguments: Any) -> nn.Module:
        """Return the network, with its trained weights unless `pretrained=False` asks for random ones.

        Args:
            **arguments: Further arguments of `timm.create_model`; a Sudoku network takes none.

        Raises:
            ValueError: If there is no such network, or its files are damaged.
            OSError: If it cannot be fetched or read.
        """
        if self.path is None:
            return load_network(registered_name(self.name), **arguments)
        if self.is_sudoku:
            return load_sudoku(self.path)
        if self.record is not None:
            registered_name(self.record.model)  # another process may have found it
        try:
            load = load_weights if self.path.is_file() else load_network
            return load(str(self.path), **arguments)
        except (OSError, MemoryError, ValueError):
            raise
        except Exception as error:  # whatever timm's builders and the readers of weights stumble over
            reason = " ".join(str(error).split())[:_LONGEST]
            raise ValueError(
                f"`NETWORK` must have weights that fit its {CONFIG_FILE}, got {self.path}: {reason}. Save it again "
                "with timm.models.save_for_hf."
            ) from error


@dataclass
class Found:
    """What the NETWORKs of a command line are.

    Attributes:
        networks: The networks, each once.
        failed: Folders of the failed trials in the runs that are named.
    """

    networks: list[Subject] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def find_networks(names: Iterable[str], *, see_images: bool = True) -> Found:
    """Return the networks that a command line names; none is loaded.

    Args:
        names: Each one of `NETWORK_FORMS`. Where a folder has a registered name, the folder is taken if it holds
            networks.
        see_images: Whether they must see images, which Sudoku's do not.

    Raises:
        ValueError: If one is no network, a trial failed or did not save its network, a record or a configuration is
            damaged, or a network does not see images and must.
    """
    result = Found()
    taken: dict[str, Subject] = {}
    for name in dict.fromkeys(names):
        for subject in _resolve(name, result.failed):
            key = subject.name if subject.path is None else str(subject.path.resolve())
            if key not in taken or taken[key].is_of_run:  # what is named itself is not left out as a run's may be
                taken[key] = subject
    result.networks = list(taken.values())
    blind = next((subject for subject in result.networks if subject.is_sudoku and see_images), None)
    if blind:
        raise ValueError(
            f"`NETWORK` must be a network that sees images, got {blind.name!r}, a Sudoku network. `timm-lp masks`, "
            "`sudoku` and `hub` take it."
        )
    return result


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return short forms of different names: the last parts of their paths that tell them apart."""
    names = list(names)
    for parts in range(1, 1 + max((len(Path(name).parts) for name in names), default=0)):
        short = {name: "/".join(Path(name).parts[-parts:]) for name in names}
        if len({*short.values()}) == len(names) and all(short.values()):
            return short
    return {name: name for name in names}


def _resolve(name: str, failed: list[str]) -> Iterator[Subject]:
    path = Path(name.removeprefix(FOLDER)).expanduser()
    if name.startswith(HUB):
        yield Subject(name)
    elif path.is_file():
        yield _of_file(name, path)
    elif (path / TRIAL_FILE).is_file():
        yield _of_trial(path)
    elif (path / CONFIG_FILE).is_file():
        yield _of_folder(name, path)
    elif path.is_dir() and any(path.rglob(TRIAL_FILE)):
        yield from _of_run(path, failed)
    elif is_module_path(name) or is_model(split_model_name_tag(name)[0]):
        registered_name(name)
        model, variant = split_name(name)
        yield Subject(name, model=model, variant=variant)
    else:
        raise ValueError(
            f"`NETWORK` must be {NETWORK_FORMS}, got {name!r}, {_what_is_there(path)}. timm.list_models('lp*') lists "
            "the registered names of this package."
        )


def _what_is_there(path: Path) -> str:
    if not path.is_dir():
        return "which is neither a name that timm has nor a file or folder"
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return "an empty folder"
    return f"a folder without {TRIAL_FILE} or {CONFIG_FILE} that holds {listed(names, _LISTED)}"


def _of_file(name: str, path: Path) -> Subject:
    folder = path.parent
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"`NETWORK` must be a file of weights beside the {CONFIG_FILE} of its network, got {name!r} without one. "
            "Put both into one folder."
        )
    if path.name == next((file for file in _WEIGHTS if (folder / file).is_file()), None):
        return next(_resolve(str(folder), []))
    subject = _of_folder(name, folder)
    if subject.is_sudoku:
        raise ValueError(f"`NETWORK` must be the folder of a Sudoku network, got its file {name!r}. Name {folder}.")
    return replace(subject, path=path)


def _of_folder(name: str, folder: Path) -> Subject:
    model, variant = _model_and_variant(folder)
    return Subject(name, folder, model=model, variant=variant, is_sudoku=model == SUDOKU)


def _model_and_variant(folder: Path) -> tuple[str, str]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        architecture = str(config["architecture"])
        model, variant = split_name(architecture, config.get("model_args"))
    except (AttributeError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"`NETWORK` must have a {CONFIG_FILE} that names its architecture, got {path}: {error!r}. Save it with "
            "timm.models.save_for_hf."
        ) from error
    if model != SUDOKU and not is_model(architecture):
        raise ValueError(
            f"`NETWORK` must be of timm, or of a package that is imported, got {folder} of "
            f"{unknown_network(architecture, config)}."
        )
    return model, variant


def _of_trial(folder: Path) -> Subject:
    check_trial_folder(folder)
    record = read_record(folder / TRIAL_FILE)
    if record.held_out:
        raise ValueError(
            f"`NETWORK` must be a trial that was tested on the test images, got {folder}, which chose a setting on "
            "held-out ones. Name another."
        )
    if record.metrics is None:
        raise ValueError(
            f"`NETWORK` must be a trial that ended well, got {folder}, which failed: {record.error}. Run it again."
        )
    return _of_record(folder, record)


def _of_run(folder: Path, failed: list[str]) -> Iterator[Subject]:
    """Yield the networks of a run's trials on the test images, and add the folders of those that failed to a list."""
    tested = {path.parent: record for path, record in read_records(folder).items() if not record.held_out}
    if not any(record.metrics for record in tested.values()):
        raise ValueError(
            f"`NETWORK` must be a run with a trial that ended well, got {folder} without one. Run it again."
        )
    for trial, record in tested.items():
        if record.metrics is None:
            failed.append(str(trial))
            _logger.warning("%s is left out: its trial failed: %s", trial, record.error)
        else:
            yield replace(_of_record(trial, record), is_of_run=True)


def _of_record(folder: Path, record: TrialRecord) -> Subject:
    if not (folder / CONFIG_FILE).is_file() or not any((folder / file).is_file() for file in _WEIGHTS):
        flag = no_save_flag(record)
        advice = f"Run it again without {flag}." if flag else "Its command saves none, or its files were removed."
        raise ValueError(f"`NETWORK` must be a trial with its saved network, got {folder} without one. {advice}")
    registered_name(record.model)
    subject = _of_folder(str(folder), folder)
    return replace(subject, record=record, model=record.model, variant=record.variant, seed=record.seed)
