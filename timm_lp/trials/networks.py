"""What a NETWORK of a command line is: a name, a folder, all trials of a run, or a file of weights."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timm.models import is_model, split_model_name_tag
from torch import nn

from ..files import TRIAL_FILE, check_trial_folder
from ..models.loading import CONFIG_FILE, WEIGHTS_FILE, load_network, load_weights
from ..models.sudoku import is_sudoku, load_sudoku
from ..models.variants import BASE, split_name
from .folder import read_records
from .record import TrialRecord, read_record

FORMS = (
    "a registered name, hf-hub:ORG/NAME, local-dir:FOLDER, the folder of a saved network, of a trial, or of a run for "
    f"all its trials, or a file of weights beside its {CONFIG_FILE}"
)

_HUB, _FOLDER = "hf-hub:", "local-dir:"
_WEIGHTS = (WEIGHTS_FILE, "pytorch_model.bin")  # what timm saves beside its configuration
_SHOWN = 5  # names of what a folder holds, in a message

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network that a command looks at.

    Attributes:
        name: What it is called: a registered name, a name with its source, a folder, or a file.
        path: The folder or the file of weights that it lies in; None where it is not on this disk.
        record: The record of the trial that trained it; None where there is none.
        model: The base network's name; empty where only loading tells it.
        variant: The variant of it.
        seed: The trial's seed; None where it is not known.
        is_sudoku: Whether it sees Sudoku puzzles and no images.
    """

    name: str
    path: Path | None = None
    record: TrialRecord | None = None
    model: str = ""
    variant: str = BASE
    seed: int | None = None
    is_sudoku: bool = False

    def load(self, **arguments: Any) -> nn.Module:
        """Return the network, with its trained weights unless `pretrained=False` asks for random ones.

        Args:
            **arguments: Further arguments of `timm.create_model`.

        Raises:
            ValueError: If there is no such network, or its files are damaged.
            OSError: If it cannot be fetched or read.
        """
        if self.path is None:
            return load_network(self.name, **arguments)
        if self.is_sudoku:
            return load_sudoku(self.path)
        return load_weights(self.path) if self.path.is_file() else load_network(str(self.path), **arguments)


@dataclass
class Found:
    """What the NETWORKs of a command line are.

    Attributes:
        networks: The networks, each once.
        failed: Folders of the trials that a run's folder holds, and that failed.
    """

    networks: list[Subject] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def find_networks(names: Iterable[str], *, see_images: bool = True) -> Found:
    """Return the networks that a command line names; none is loaded.

    Args:
        names: Each one of `FORMS`.
        see_images: Whether they must see images, which Sudoku's do not.

    Raises:
        ValueError: If one is no network, a trial failed or did not save its network, a record is damaged, or a network
            does not see images and must.
    """
    found, known = Found(), set()
    for name in dict.fromkeys(names):
        for subject in _resolve(name, found.failed):
            key = subject.name if subject.path is None else str(subject.path.resolve())
            if key not in known:
                known.add(key)
                found.networks.append(subject)
    blind = next((subject for subject in found.networks if subject.is_sudoku and see_images), None)
    if blind:
        raise ValueError(
            f"`NETWORK` must be a network that sees images, got {blind.name!r}, a Sudoku network. `timm-lp masks` and "
            "`timm-lp sudoku` take it."
        )
    return found


def _resolve(name: str, failed: list[str]) -> Iterator[Subject]:
    path = Path(name.removeprefix(_FOLDER)).expanduser()
    is_registered = is_model(split_model_name_tag(name)[0])
    if name.startswith(_HUB):
        yield Subject(name)
    elif path.is_file():
        yield _of_file(name, path)
    elif (path / TRIAL_FILE).is_file():
        yield _of_trial(path)
    elif (path / CONFIG_FILE).is_file():
        yield _of_folder(name, path)
    elif path.is_dir() and any(path.rglob(TRIAL_FILE)):
        yield from _of_run(path, failed)
    elif is_registered:
        model, variant = split_name(name)
        yield Subject(name, model=model, variant=variant)
    else:
        raise ValueError(f"`NETWORK` must be {FORMS}, got {name!r}{_seen(path)}. timm.list_models('lp*') lists ours.")


def _seen(path: Path) -> str:
    """Return what there is in place of a network, as "got ..." goes on."""
    if not path.is_dir():
        return ", which is neither a name that timm knows nor a file or folder"
    held = sorted(own.name for own in path.iterdir())
    if not held:
        return ", an empty folder"
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    return f", a folder without {TRIAL_FILE} or {CONFIG_FILE} that holds {', '.join(held[:_SHOWN])}{more}"


def _of_file(name: str, path: Path) -> Subject:
    if not (path.parent / CONFIG_FILE).is_file():
        raise ValueError(
            f"`NETWORK` must be a file of weights beside the {CONFIG_FILE} of its network, got {name!r}, beside which "
            "there is none. Put both into one folder."
        )
    if path.name in _WEIGHTS:
        return next(_resolve(str(path.parent), []))
    if is_sudoku(path.parent):
        raise ValueError(f"`NETWORK` must be a Sudoku network's folder, got {name!r}. Name the folder alone.")
    return _of_folder(name, path.parent, path)


def _of_folder(name: str, folder: Path, file: Path | None = None) -> Subject:
    if is_sudoku(folder):
        return Subject(name, folder, model="sudoku", is_sudoku=True)
    model, variant = split_name(_architecture(folder))
    return Subject(name, file or folder, model=model, variant=variant)


def _architecture(folder: Path) -> str:
    path = folder / CONFIG_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["architecture"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"`NETWORK` must have a {CONFIG_FILE} that names its architecture, got {path}: {error}. Save it with "
            "timm.models.save_for_hf."
        ) from error


def _of_trial(folder: Path) -> Subject:
    check_trial_folder(folder)
    record = read_record(folder / TRIAL_FILE)
    if record.metrics is None:
        raise ValueError(f"`NETWORK` must be a trial that ended well, got {folder}, which failed: {record.error}")
    return _of_record(folder, record)


def _of_run(folder: Path, failed: list[str]) -> Iterator[Subject]:
    count = 0
    for path, record in read_records(folder).items():
        if record.held_out:
            continue
        if record.metrics is None:
            failed.append(str(path.parent))
            _logger.warning("%s is left out: its trial failed: %s", path.parent, record.error)
            continue
        count += 1
        yield _of_record(path.parent, record)
    if not count:
        raise ValueError(
            f"`NETWORK` must be a run with a trial that ended well, got {folder} without one. Run it again."
        )


def _of_record(folder: Path, record: TrialRecord) -> Subject:
    if not (folder / CONFIG_FILE).is_file() or not any((folder / name).is_file() for name in _WEIGHTS):
        kept = "networks" if record.model.startswith("sudoku") else "models"
        raise ValueError(
            f"`NETWORK` must be a trial that saved its network, got {folder}, which did not. Run it again without "
            f"--no-save-{kept}."
        )
    return Subject(str(folder), folder, record, record.model, record.variant, record.seed, is_sudoku(folder))
