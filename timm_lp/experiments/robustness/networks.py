"""The networks that are tested: trials by their records, or any others."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import nn
from tqdm import tqdm

from ...files import TRIAL_FILE
from ...models.loading import load_network
from ...models.variants import BASE, VARIANTS
from ...trials.folder import check_comparable, read_records
from ...trials.record import TrialRecord

# Settings of trials that may differ in one table: where images were read and which file a checkpoint was.
_FREE = ("checkpoint", "dataset_config", "dataset_revision", "image_column", "label_column", "train_split")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, and where it belongs in the tables.

    Attributes:
        name: What `load_network` takes.
        record: The record of the trial that trained it; None where there is none.
        model: The base network's name.
        variant: The variant of it.
        seed: The trial's seed; None where it is not known.
        sha256: Digest of its weights and of what it computes with them.
        num_classes: Number of its classes.
        class_names: Their names, where they are known.
    """

    name: str
    record: TrialRecord | None
    model: str = ""
    variant: str = BASE
    seed: int | None = None
    sha256: str = ""
    num_classes: int = 0
    class_names: tuple[str, ...] | None = None

    @property
    def clean(self) -> float | None:
        """Its accuracy on the images without a corruption, percent, where its record has it."""
        return self.record.metrics["top1"] if self.record and self.record.metrics else None


def find_networks(names: Iterable[str]) -> list[Subject]:
    """Return the networks that a command line names, each loaded once to see what it is.

    Args:
        names: Trials' folders, runs' output folders for all trials in them, or other networks as `load_network` takes
            them.

    Raises:
        ValueError: If there is no such network, no trial that ended well, or trials do not belong in one table.
        OSError: If a network cannot be fetched.
    """
    found = [network for name in dict.fromkeys(names) for network in _named(name)]
    _check_together([network for network in found if network.record])
    bar = tqdm(found, desc="networks", unit="network", leave=False, dynamic_ncols=True, disable=len(found) < 2)
    return [_described(network) for network in bar]


def check_data(networks: Sequence[Subject], data_sha256: str, name: str) -> None:
    """Refuse images other than those of the trials' data set.

    Args:
        networks: The networks.
        data_sha256: Digest of the data set's contents.
        name: What the data set is called.

    Raises:
        ValueError: If a trial has another.
    """
    for network in networks:
        if network.record and network.record.data_sha256 != data_sha256:
            raise ValueError(
                f"`dataset` must have the images and classes of the trials' own, got {name}, whose contents are not "
                f"those of {network.record.dataset.name} in {network.name}. Give the folder that they were trained on."
            )


def _named(name: str) -> list[Subject]:
    folder = Path(name)
    if not folder.is_dir() or ((folder / "config.json").is_file() and not (folder / TRIAL_FILE).is_file()):
        return [Subject(name, None)]
    if not any(folder.rglob(TRIAL_FILE)):
        raise ValueError(
            f"`networks` must be a trial's folder, a run's output folder or a network, got {name!r} with neither "
            f"{TRIAL_FILE} nor config.json in it."
        )
    networks = []
    for path, record in _tested(folder).items():
        if record.metrics is None:
            _logger.warning("%s is left out: its trial failed: %s", path.parent, record.error)
            continue
        networks.append(Subject(str(path.parent), record, record.model, record.variant, record.seed))
    if not networks:
        raise ValueError(f"`networks` must have a trial that ended well, got none in {name!r}. Run it again.")
    return networks


def failed_trials(names: Iterable[str]) -> list[str]:
    """Return the folders of the trials that `find_networks` leaves out, since they failed.

    Args:
        names: As `find_networks` takes them.
    """
    folders = [Path(name) for name in dict.fromkeys(names) if any(Path(name).rglob(TRIAL_FILE))]
    trials = {path.parent: record for folder in folders for path, record in _tested(folder).items()}
    return [str(folder) for folder, record in trials.items() if record.metrics is None]


def _tested(folder: Path) -> dict[Path, TrialRecord]:
    """Return the records of all trials on the test images below a folder, by their files."""
    return {path: record for path, record in read_records(folder).items() if not record.held_out}


def _check_together(trials: Sequence[Subject]) -> None:
    records = {Path(network.name, TRIAL_FILE): network.record for network in trials if network.record}
    for path, record in records.items():
        first_path, first = next(iter(records.items()))
        if record.data_sha256 != first.data_sha256:
            raise ValueError(
                f"`networks` must be trials of one data set, got {first_path.parent} of {first.dataset.name} and "
                f"{path.parent} of {record.dataset.name} with other images or classes. Test each data set by itself."
            )
    check_comparable(records, free=_FREE, of_model={name for record in records.values() for name in record.settings})


def _described(network: Subject) -> Subject:
    module = load_network(network.name)
    config = getattr(module, "pretrained_cfg", None) or {}
    names = config.get("label_names")
    facts = {
        "sha256": network_digest(module, resolve_model_data_config(module)),
        "num_classes": int(getattr(module, "num_classes", 0)),
        "class_names": tuple(map(str, names)) if names else None,
    }
    if network.record is None:
        architecture = config.get("architecture") or network.name
        prefix = next((own.prefix for own in VARIANTS if architecture.startswith(f"{own.prefix}_")), None)
        facts |= {"model": architecture.removeprefix(f"{prefix}_"), "variant": prefix or BASE}
    return replace(network, **facts)  # type: ignore[arg-type] # each of its own type


def network_digest(network: nn.Module, data_config: dict[str, Any]) -> str:
    """Return a digest of a network's weights, of the layers that it computes with, and of its preprocessing."""
    digest = hashlib.sha256(f"{network} {sorted(data_config.items())}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
