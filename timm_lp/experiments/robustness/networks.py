"""The networks that are tested, and which of them belong in one table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from timm.models import get_model_args
from torch import nn
from tqdm.auto import tqdm

from ...files import TRIAL_FILE
from ...models.variants import split_name
from ...trials.folder import check_comparable
from ...trials.networks import Subject

# Settings of trials that may differ in one table: where images were read and which file a checkpoint was.
_FREE = ("checkpoint", "dataset_config", "dataset_revision", "image_column", "label_column", "train_split")


@dataclass(frozen=True, eq=False)
class Candidate(Subject):
    """A network, and what decides how it is tested.

    Attributes:
        sha256: Digest of its weights and of what it computes with them.
        num_classes: Number of its classes.
        class_names: Their names; None where it does not say them.
        preprocessing: How it sees an image.
    """

    sha256: str = ""
    num_classes: int = 0
    class_names: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> float | None:
        """Its accuracy on the images without a corruption, percent, where its record has it."""
        return self.record.metrics["top1"] if self.record and self.record.metrics else None


def describe_networks(subjects: Sequence[Subject]) -> list[Candidate]:
    """Return networks with what decides how they are tested; each is loaded once.

    Raises:
        ValueError: If trials do not belong in one table, or a network is damaged.
        OSError: If a network cannot be fetched.
    """
    _check_together(subjects)
    bar = tqdm(subjects, desc="networks", unit="network", leave=False, dynamic_ncols=True, disable=len(subjects) < 2)
    return [_described(subject) for subject in bar]


def shared_view(networks: Sequence[Candidate]) -> dict[str, Any]:
    """Return the preprocessing with which all networks see the same part of an image at the same size.

    Raises:
        ValueError: If they do not.
    """
    first, *others = networks
    for network in others:
        for name, value in network.preprocessing.items():
            if name not in ("mean", "std") and value != first.preprocessing.get(name):
                raise ValueError(
                    f"`networks` must see images alike for --compute, got {first.name} with {name} "
                    f"{first.preprocessing.get(name)} and {network.name} with {value}. Test them one by one."
                )
    return first.preprocessing


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


def _check_together(subjects: Sequence[Subject]) -> None:
    records = {Path(subject.name, TRIAL_FILE): subject.record for subject in subjects if subject.record}
    for path, record in records.items():
        first_path, first = next(iter(records.items()))
        if record.data_sha256 != first.data_sha256:
            raise ValueError(
                f"`networks` must be trials of one data set, got {first_path.parent} of {first.dataset.name} and "
                f"{path.parent} of {record.dataset.name} with other images or classes. Test each data set by itself."
            )
    check_comparable(
        records,
        free=_FREE,
        of_model={name for record in records.values() for name in record.settings},
        argument="NETWORK",
        advice="Test each run by itself.",
    )


def _described(subject: Subject) -> Candidate:
    module = subject.load()
    config = getattr(module, "pretrained_cfg", None) or {}
    names, preprocessing = config.get("label_names"), resolve_model_data_config(module)
    facts: dict[str, Any] = {
        "sha256": network_digest(module, preprocessing),
        "preprocessing": preprocessing,
        "num_classes": int(getattr(module, "num_classes", 0)),
        "class_names": tuple(map(str, names)) if names else None,
    }
    if subject.record is None:
        model, variant = split_name(config.get("architecture") or subject.name, get_model_args(module))
        facts |= {"model": model, "variant": variant}
    return Candidate(**{**vars(subject), **facts})


def network_digest(network: nn.Module, data_config: dict[str, Any]) -> str:
    """Return a digest of a network's weights, of the layers that it computes with, and of its preprocessing."""
    digest = hashlib.sha256(f"{network} {sorted(data_config.items())}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
