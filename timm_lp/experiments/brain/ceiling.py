"""The most that a network can reach: how well an area's similarities are known, by comparing halves of the data."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from .responses import Area
from .similarity import Array, pairs_of, rsm_of_responses

Kind = Literal["across mice", "halves of trials", "published", "none"]

_SPLITS = 20  # of the trials into halves


@dataclass(frozen=True)
class Ceiling:
    """The tau that the true representation of an area is expected to reach.

    Attributes:
        kind: What it was taken from.
        tau: Kendall's tau, None where there is no ceiling.
        agreement: Median tau between the parts that were compared, which is what A.11 of the paper divides by; None
            where it was not measured.
    """

    kind: Kind
    tau: float | None = None
    agreement: float | None = None


def ceiling_of(area: Area, centred: bool, seed: int = 0) -> Ceiling:
    """Return the ceiling of an area, from its mice if there are two, else from its trials, else the published one.

    Parts of the data agree less with each other than all of the data with the truth. The ceiling extrapolates from
    their agreement by the Spearman-Brown formula, on Pearson's scale: r = sin(pi tau / 2), as for normal variables.

    Args:
        area: What the area answered.
        centred: Whether each unit's mean over the images is subtracted.
        seed: Of the halves of trials.
    """
    if area.responses is not None:
        mice = _rsms_of_mice(area.responses, area.mice, centred)
        if len(mice) > 1:
            return _extrapolated("across mice", combinations(mice, 2), len(mice))
        halves = _rsms_of_halves(area.responses, centred, np.random.default_rng(seed))
        if halves:
            return _extrapolated("halves of trials", halves, 2)
    if area.published_ceiling is not None:
        return Ceiling("published", area.published_ceiling)
    return Ceiling("none")


def attainable_tau(agreement: float, parts: float) -> float:
    """Return the tau between the truth and all of the data, from the median tau between two of their equal parts.

    Args:
        agreement: Tau between two parts.
        parts: Number of the parts that make up all of the data.
    """
    reliability = max(0.0, np.sin(np.pi * agreement / 2))
    of_all = parts * reliability / (1 + (parts - 1) * reliability)
    return float(2 / np.pi * np.arcsin(np.sqrt(of_all)))


def _extrapolated(kind: Kind, pairs: Iterable[tuple[Array, Array]], parts: int) -> Ceiling:
    agreement = float(np.median([kendalltau(pairs_of(one), pairs_of(other)).statistic for one, other in pairs]))
    return Ceiling(kind, attainable_tau(agreement, parts), agreement)


def _rsms_of_mice(responses: NDArray[np.floating], mice: NDArray[Any] | None, centred: bool) -> list[Array]:
    """Return a matrix for each mouse; one whose neurons are too few or silent to compare all images is left out."""
    if mice is None:
        return []
    rsms = [rsm_of_responses(responses[:, :, mice == mouse], centred) for mouse in np.unique(mice)]
    return [rsm for rsm in rsms if np.isfinite(rsm).all()]


def _rsms_of_halves(
    responses: NDArray[np.floating], centred: bool, rng: np.random.Generator
) -> list[tuple[Array, Array]]:
    """Return the matrices of random halves of the trials; none if a half is too silent to compare all images."""
    trials = responses.shape[1]
    if trials < 2:
        return []
    pairs = []
    for _ in range(_SPLITS):
        order = rng.permutation(trials)
        halves = order[: trials // 2], order[trials // 2 :]
        first, second = (rsm_of_responses(responses[:, half], centred) for half in halves)
        pairs.append((first, second))
    return pairs if np.isfinite(pairs).all() else []
