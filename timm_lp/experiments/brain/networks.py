"""The networks of a command line: what they are called, and which are seeds of one variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...files import TRIAL_FILE, check_trial_folder
from ...models.loading import load_network
from ...trials.record import read_record


@dataclass(frozen=True)
class Network:
    """A network that is to be compared with a cortex.

    Attributes:
        name: Its name or folder, as `load_network` takes it.
        group: What it is one seed of; its name where it stands alone.
        seed: Its seed, None where it stands alone.
        pretrained: Whether it has trained weights, or random ones of its seed.
    """

    name: str
    group: str
    seed: int | None = None
    pretrained: bool = True

    def load(self) -> nn.Module:
        """Return the network.

        Raises:
            ValueError: If there is no such network.
            OSError: If it cannot be fetched.
        """
        if self.pretrained:
            return load_network(self.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed or 0)
            return load_network(self.name, pretrained=False)


def networks_of(names: Sequence[str], untrained: Sequence[str] = (), seeds: Sequence[int] = (0,)) -> list[Network]:
    """Return the networks that a command line names.

    Args:
        names: Names or folders, as `load_network` takes them.
        untrained: Such names, whose networks get random weights.
        seeds: Of the random weights; each gives a network. A trial's network has the seed of the trial instead.

    Raises:
        ValueError: If a network is named twice, or a trial's record cannot be read.
    """
    networks = []
    for name in names:
        trial = trial_of(Path(name))
        networks.append(Network(name, name) if trial is None else Network(name, "{} ({})".format(*trial), trial[2]))
    for name in untrained:
        trial = trial_of(Path(name))
        group = f"{name} (untrained)" if trial is None else "{} ({}, untrained)".format(*trial)
        networks += [Network(name, group, seed, pretrained=False) for seed in (seeds if trial is None else trial[2:])]
    places = [(network.group, network.seed) for network in networks]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        which = twice[0] if twice[1] is None else f"seed {twice[1]} of {twice[0]}"
        raise ValueError(
            f"`--models` and `--untrained` must name each network once, got {which} twice. Compare trials of one data "
            "set at a time."
        )
    return networks


def trial_of(folder: Path) -> tuple[str, str, int] | None:
    """Return the model, variant and seed of a trial's folder, None where it is none.

    Raises:
        ValueError: If its record is none of this version.
    """
    path = folder / TRIAL_FILE
    if not path.is_file():
        return None
    check_trial_folder(folder)
    record = read_record(path)
    return record.model, record.variant, record.seed
