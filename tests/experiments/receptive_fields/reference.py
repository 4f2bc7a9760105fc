"""Slow and obvious forms of what the package computes, in float64."""

import math

import numpy as np
from scipy.integrate import quad


def log_prob(x: np.ndarray, C: np.ndarray, p: float, mean: np.ndarray) -> float:
    """Return the log density of one offset (Eq. 1, with `det C` where it belongs), sum by sum."""
    d, power = len(C), 0.0
    for row in C:
        power += abs(sum(entry * (a - b) for entry, a, b in zip(row, x, mean, strict=True))) ** p
    return math.log(abs(np.linalg.det(C))) - d * math.log(2 * math.gamma(1 + 1 / p)) - power


def log_tap_prob(low: float, high: float, p: float) -> float:
    """Return the logarithm of the integral of the one-dimensional density over a tap, by quadrature."""
    peak = min((abs(z) ** p for z in (low, high)), default=0.0) if low * high > 0 else 0.0
    mass, _ = quad(lambda z: math.exp(peak - abs(z) ** p), low, high, epsabs=0, epsrel=1e-12, limit=500)
    return math.log(mass) - peak - math.log(2 * math.gamma(1 + 1 / p))


def slope(function: object, x: float, step: float = 1e-5) -> float:
    """Return a derivative by a central difference of fourth order."""
    f = function
    return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step)  # type: ignore[operator]
