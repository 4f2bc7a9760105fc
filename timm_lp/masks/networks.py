"""The networks whose masks are looked at, each on its own or the trials of one network together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from tqdm import tqdm

from ..files import check_trial_folder
from ..models.loading import load_network
from ..models.sudoku import is_sudoku, load_sudoku
from .statistics import LayerMasks, layer_masks, pool

_ALL = "all networks"
_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True, eq=False)
class Group:
    """The masks of a network, or of several trials together.

    Attributes:
        name: What tables and pictures call it.
        networks: The networks, as they were named.
        layers: Their masks, layer by layer.
        is_demonstration: Whether no training moved the masks.
    """

    name: str
    networks: tuple[str, ...]
    layers: list[LayerMasks]
    is_demonstration: bool = False


def load_groups(names: Sequence[str], pooling: str = "trials") -> list[Group]:
    """Load networks, and return their masks.

    Args:
        names: As `load_network` takes them, or folders of Sudoku networks.
        pooling: "trials" takes those together whose names differ only in the `-seed1`, `-seed2` at their end, "all"
            takes all together, "none" none.

    Raises:
        ValueError: If there is no such network, one has no masks or lies in another trial's folder, or those that are
            pooled do not have the same layers.
        OSError: If a network cannot be fetched.
    """
    for name in names:
        check_trial_folder(name)
    bar = tqdm(dict.fromkeys(names), desc="networks", unit="network", disable=None)
    masks = {name: _masks_of(name, _load(name)) for name in bar}
    pooled: dict[str, list[str]] = {}
    for name in masks:
        pooled.setdefault(_pool_of(name, pooling), []).append(name)
    titles = _titles(pooled)
    return [
        Group(titles[key], tuple(members), pool([masks[member] for member in members]))
        for key, members in pooled.items()
    ]


def _load(name: str) -> nn.Module:
    folder = name.removeprefix("local-dir:")
    return load_sudoku(folder) if is_sudoku(Path(folder)) else load_network(name)


def _masks_of(name: str, network: nn.Module) -> list[LayerMasks]:
    masks = layer_masks(network)
    if not masks:
        raise ValueError(f"`names` must be of networks with Lp-convolutions, got {name}, which has none. Leave it out.")
    return masks


def _pool_of(name: str, pooling: str) -> str:
    if pooling == "trials":
        return _SEED.sub("", name.rstrip("/"))
    return _ALL if pooling == "all" else name


def _titles(pooled: Iterable[str]) -> dict[str, str]:
    """Return short names of the groups: the last parts of their paths that tell them apart."""
    pooled = list(pooled)
    for parts in range(1, 1 + max(len(Path(key).parts) for key in pooled)):
        titles = {key: "/".join(Path(key).parts[-parts:]) for key in pooled}
        if len({*titles.values()}) == len(pooled):
            return titles
    return {key: key for key in pooled}
