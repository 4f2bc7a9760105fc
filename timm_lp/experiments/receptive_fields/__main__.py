"""`python -m timm_lp.experiments.receptive_fields`, the same as `timm-lp receptive-fields`."""

from ...cli import start

start("receptive-fields")
