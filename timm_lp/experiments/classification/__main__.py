"""`python -m timm_lp.experiments.classification`, the same as `timm-lp finetune` and `finetune.py`."""

from ...cli import start

start("finetune")
