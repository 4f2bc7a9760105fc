"""The networks that are compared with a cortex: which are seeds of one variant, and which have random weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...trials.networks import Subject, find_networks


@dataclass(frozen=True)
class Network:
    """A network that is to be compared with a cortex.

    Attributes:
        subject: What the command line names.
        group: What it is one seed of; its name where it stands alone.
        seed: Its seed, None where it stands alone.
        pretrained: Whether it has trained weights, or random ones of its seed.
    """

    subject: Subject
    group: str
    seed: int | None = None
    pretrained: bool = True

    @property
    def name(self) -> str:
        """What it is called."""
        return self.subject.name

    def load(self) -> nn.Module:
        """Return the network.

        Raises:
            ValueError: If there is no such network, or its files are damaged.
            OSError: If it cannot be fetched.
        """
        if self.pretrained:
            return self.subject.load()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed or 0)
            return self.subject.load(pretrained=False)


def networks_of(names: Sequence[str], untrained: Sequence[str] = (), seeds: Sequence[int] = (0,)) -> list[Network]:
    """Return the networks that a command line names.

    Args:
        names: As `find_networks` takes them. Trials of one model and variant are its seeds.
        untrained: Such names, whose networks get random weights.
        seeds: Of the random weights; each gives a network. A trial's network has the seed of the trial instead.

    Raises:
        ValueError: If there is no such network, or two trials are the same seed of one model and variant.
    """
    networks = [
        Network(subject, _title(subject, subject.name), subject.seed) for subject in find_networks(names).networks
    ]
    for subject in find_networks(untrained).networks:
        its_seeds = seeds if subject.seed is None else [subject.seed]
        group = _title(subject, f"{subject.name} (untrained)", ", untrained")
        networks += [Network(subject, group, seed, pretrained=False) for seed in its_seeds]
    members = [(network.group, network.seed) for network in networks]
    twice = next((member for member in members if members.count(member) > 1), None)
    if twice:
        raise ValueError(
            f"`--models` and `--untrained` must name each network once, got seed {twice[1]} of {twice[0]} twice. "
            "Compare trials of one data set at a time."
        )
    _check_groups(networks)
    return networks


def _check_groups(networks: Sequence[Network]) -> None:
    """Refuse trials as seeds of one network that differ in more than the seed: other data, or other settings."""
    first: dict[str, tuple[Subject, dict[str, Any]]] = {}
    for network in networks:
        record = network.subject.record
        if record is None:
            continue
        settings = {name: value for name, value in record.decisive().items() if name != "seed"}
        other, expected = first.setdefault(network.group, (network.subject, settings))
        differ = [name for name in {**expected, **settings} if settings.get(name) != expected.get(name)]
        if differ:
            what = "data" if "data_sha256" in differ else differ[0]
            raise ValueError(
                f"`--models` must name trials that differ in the seed alone, got {other.name} and {network.name} of "
                f"{network.group} with another {what}. Compare trials of one run at a time."
            )


def _title(subject: Subject, name: str, remark: str = "") -> str:
    """Return what a network is a seed of: its trial's model and variant, or its name where it has no record."""
    return f"{subject.record.model} ({subject.record.variant}{remark})" if subject.record else name
