"""`python -m timm_lp.experiments.sudoku`, the same as `timm-lp sudoku`."""

from ...cli import start

start("sudoku")
