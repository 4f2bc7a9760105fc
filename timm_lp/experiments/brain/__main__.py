"""`python -m timm_lp.experiments.brain`, the same as `timm-lp brain`."""

from ...cli import start

start("brain")
