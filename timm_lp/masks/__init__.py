"""What masks look like: their conformation (A.6), numbers by layer (A.16, A.17), and pictures."""

from .conformation import Conformation, conformation, conformation_matrix

__all__ = ["Conformation", "conformation", "conformation_matrix"]
