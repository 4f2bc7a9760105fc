"""The paper's Sudoku network (section 5, A.5): the board, the network and its variants, and how it solves a puzzle."""

from .network import (
    ARCHITECTURE,
    SudokuNet,
    create_network,
    is_sudoku,
    keep_exponents,
    load_sudoku,
    save_network,
)

__all__ = [
    "ARCHITECTURE",
    "SudokuNet",
    "create_network",
    "is_sudoku",
    "keep_exponents",
    "load_sudoku",
    "save_network",
]
