"""Local receptive fields as the multivariate p-generalized normal distribution (Eq. 1, Figure 1, Table 8).

`python -m timm_lp.experiments.receptive_fields` measures a network's or a user's own fields. Importing this package
imports nothing until one of its names is used.
"""

from typing import TYPE_CHECKING

from ...lazy import lazy_names

if TYPE_CHECKING:
    from .density import mpnd_log_prob, sample_mpnd
    from .fit import GaussianTest, MPNDFit, fit_mpnd, gaussian_test

__all__ = ["GaussianTest", "MPNDFit", "fit_mpnd", "gaussian_test", "mpnd_log_prob", "sample_mpnd"]

_HOMES = {
    "GaussianTest": ".fit",
    "MPNDFit": ".fit",
    "fit_mpnd": ".fit",
    "gaussian_test": ".fit",
    "mpnd_log_prob": ".density",
    "sample_mpnd": ".density",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
