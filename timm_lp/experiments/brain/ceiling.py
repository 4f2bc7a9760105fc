"""The most that a network can reach: how well an area's similarities are known, by comparing parts of the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, compress
from operator import add
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from .responses import Area
from .similarity import Array, covariance_of_gram, pairs_of, rsm_of_gram, rsm_of_responses

Kind = Literal["across mice", "halves of trials", "published", "none"]

_SPLITS = 20  # of the mice or the trials into two parts
_DRAWS = 400  # divisions of the mice, of which the most even ones are taken
_SMALLEST = 0.1  # share of the signal that the smaller part must have: below it, its noise hides what it shares


@dataclass(frozen=True)
class Ceiling:
    """The tau that the true representation of an area is expected to reach.

    Attributes:
        kind: What it was taken from.
        tau: Kendall's tau, None where there is no ceiling.
        agreement: Median tau between single mice, or between halves of the trials, which is what A.11 of the paper
            divides by; None where it was not measured.
        reason: Why it is not taken across mice although there are several, None where it is.
    """

    kind: Kind
    tau: float | None = None
    agreement: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Products:
    """Sums over units, which add up over mice, from which the similarities of the images and their noise follow.

    Attributes:
        gram: Products of two images' mean responses, shape `(n, n)`.
        sums: Mean responses to each image, shape `(n,)`.
        units: Number of the units.
        noise: Variance that the trials leave to the mean responses, over all images; 0 where there is one trial.
    """

    gram: Array
    sums: Array
    units: int
    noise: float

    @classmethod
    def of(cls, responses: NDArray[np.floating]) -> "Products":
        """Return those of responses, shape `(n, trials, units)`."""
        trials = responses.shape[1]
        means = responses.mean(1, dtype=np.float64)
        noise = 0.0
        if trials > 1:
            squares = float(np.einsum("itu,itu->", responses, responses, dtype=np.float64))
            noise = (squares / trials - float((means**2).sum())) / (trials - 1)
        return cls(means @ means.T, means.sum(1), means.shape[1], noise)

    def __add__(self, other: "Products") -> "Products":
        return Products(
            self.gram + other.gram, self.sums + other.sums, self.units + other.units, self.noise + other.noise
        )

    def pairs(self, centred: bool) -> Array:
        """Return the similarities of all pairs of images."""
        return pairs_of(rsm_of_gram(self.gram, self.sums, self.units, centred))

    def signal(self, centred: bool) -> float:
        """Return the variance of the mean responses that is none of the trials' noise, over all images; 0 for none."""
        variance = np.trace(covariance_of_gram(self.gram, self.sums, self.units, centred))
        return max(0.0, float(variance) - self.noise)


def ceiling_of(area: Area, centred: bool, seed: int = 0) -> Ceiling:
    """Return the ceiling of an area, from its mice where they can be divided, else from its trials, else as published.

    Two parts of the data agree less with each other than all of the data with the truth. The ceiling follows from their
    agreement and from how much noisier each part is (`attainable_tau`): a part of the mice by its share of the signal,
    as noise falls with the number of neurons; half of the trials by the variance that trials leave to mean responses.

    Args:
        area: What the area answered.
        centred: Whether each unit's mean over the images is subtracted.
        seed: Of the parts.
    """
    reason = None
    if area.responses is not None:
        rng = np.random.default_rng(seed)
        if area.mice is not None and len(names := np.unique(area.mice)) > 1:
            across = _across_mice([area.responses[:, :, area.mice == name] for name in names], centred, rng)
            if isinstance(across, Ceiling):
                return across
            reason = across
        between = _between_trials(area.responses, centred, rng)
        if between is not None:
            return Ceiling("halves of trials", *between, reason)
    if area.published_ceiling is not None:
        return Ceiling("published", area.published_ceiling, reason=reason)
    return Ceiling("none", reason=reason)


def attainable_tau(agreement: float, noise: tuple[float, float]) -> float:
    """Return the tau between the truth and all of the data, from the tau between two of their parts.

    With a noise variance of N times the true one in all of the data, and f N and g N in the parts, the correlation of
    the parts is r = 1 / sqrt((1 + f N) (1 + g N)), and that of all of the data with the truth 1 / sqrt(1 + N). For two
    equal halves, f = g = 2, this is the Spearman-Brown formula. tau = 2 / pi arcsin(r), as for normal variables.

    Args:
        agreement: Tau between two parts whose noise is independent.
        noise: How many times the noise variance of all of the data each part has, f and g.
    """
    r = np.sin(np.pi * agreement / 2)
    if r <= 0:
        return 0.0
    total, product = sum(noise), noise[0] * noise[1]
    excess = 4 * product * (1 / r**2 - 1)
    of_all = excess / (2 * product * (total + np.sqrt(total**2 + excess)))
    return float(2 / np.pi * np.arcsin(1 / np.sqrt(1 + of_all)))


def _across_mice(mice: Sequence[NDArray[np.floating]], centred: bool, rng: np.random.Generator) -> Ceiling | str:
    """Return the ceiling from divisions of the mice into two parts as even as they can be, or why there is none."""
    products = [Products.of(responses) for responses in mice]
    single = [pairs for each in products if np.isfinite(pairs := each.pairs(centred)).all()]
    if len(single) < 2:
        return "All mice but one have too few neurons, or too silent ones, to compare all images."
    signals = np.array([each.signal(centred) for each in products])
    if not signals.any():
        return "The mice's trials agree by no more than chance."
    first = rng.integers(2, size=(_DRAWS, len(mice))).astype(bool)
    share = (first @ signals) / signals.sum()
    smaller = np.minimum(share, 1 - share)
    order = np.argsort(-smaller, kind="stable")[:_SPLITS]
    if smaller[order[0]] < _SMALLEST:
        most = 100 * signals.max() / signals.sum()
        return f"One mouse has {most:.0f} % of the signal, so the others are no part to compare with it."
    taus = []
    for division in order[smaller[order] >= _SMALLEST]:
        parts = compress(products, first[division]), compress(products, ~first[division])
        one, other = (reduce(add, part).pairs(centred) for part in parts)
        if np.isfinite([one, other]).all():
            taus.append(attainable_tau(_tau(one, other), (1 / share[division], 1 / (1 - share[division]))))
    if not taus:
        return "No two parts of the mice can both compare all images."
    return Ceiling("across mice", float(np.median(taus)), _agreement([*combinations(single, 2)]))


def _between_trials(
    responses: NDArray[np.floating], centred: bool, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the ceiling from random halves of the trials and their agreement; None where these cannot be compared.

    Where their number is odd, one trial is in neither half. If mean responses have noise of e times their signal, then
    similarities have a noise variance in proportion to e (2 + e), as far as the units' noise is independent.
    """
    trials = responses.shape[1]
    half = trials // 2
    if half < 1:
        return None
    pairs = []
    for _ in range(_SPLITS):
        order = rng.permutation(trials)
        halves = order[:half], order[half : 2 * half]
        pairs.append([pairs_of(rsm_of_responses(responses[:, chosen], centred)) for chosen in halves])
    if not np.isfinite(pairs).all():
        return None
    whole, ratio = Products.of(responses), trials / half
    signal = whole.signal(centred)
    factor = ratio * (2 * signal + ratio * whole.noise) / (2 * signal + whole.noise)
    agreement = _agreement(pairs)
    return attainable_tau(agreement, (factor, factor)), agreement


def _agreement(pairs: Sequence[Sequence[Array]]) -> float:
    return float(np.median([_tau(*both) for both in pairs]))


def _tau(one: Array, other: Array) -> float:
    return float(kendalltau(one, other).statistic)
