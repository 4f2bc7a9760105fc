"""`python -m timm_lp.masks`, the same as `timm-lp masks`."""

from ..cli import start

start("masks")
