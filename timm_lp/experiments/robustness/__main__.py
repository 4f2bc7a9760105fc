"""`python -m timm_lp.experiments.robustness`, the same as `timm-lp robustness`."""

from ...cli import start

start("robustness")
