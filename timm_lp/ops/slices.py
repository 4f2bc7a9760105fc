"""Ranges that cover a length in steps."""

from collections.abc import Iterator


def slices(length: int, step: int) -> Iterator[slice]:
    """Return the ranges of at most `step` numbers that cover `length` numbers."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
