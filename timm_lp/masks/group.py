"""The masks that a table or a picture shows together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .statistics import LayerMasks


@dataclass(frozen=True, eq=False)
class Group:
    """The masks of a network, or of several trials together.

    Attributes:
        name: What tables and pictures call it.
        networks: Names of the networks.
        layers: Their masks, layer by layer.
        is_demonstration: Whether no training moved the masks.
        history: The masks after each epoch, by its number, where they are to be animated.
    """

    name: str
    networks: tuple[str, ...]
    layers: list[LayerMasks]
    is_demonstration: bool = False
    history: Mapping[int, list[LayerMasks]] = field(default_factory=dict)
