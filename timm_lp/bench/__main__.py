"""`python -m timm_lp.bench`, the same as `timm-lp bench`."""

from ..cli import start

start("bench")
