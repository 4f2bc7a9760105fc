"""Tables of cases: by default the few that reach every value, and the whole product behind the marker `exhaustive`.

`@covering(2, name=SHAPES, way=WAYS, dtype=DTYPES)` parametrizes a test with all combinations of names, ways and dtypes,
and marks as `exhaustive` all but a few, in which every two values of two axes meet. With 1 in place of 2, every value
occurs. `pytest tests/ops -m "not families"` runs the whole product.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations, product
from typing import Any

import pytest


def covering(
    strength: int, keep: Callable[..., bool] = lambda **case: True, **axes: Iterable[Any] | Mapping[str, Any]
) -> pytest.MarkDecorator:
    """Return the mark that parametrizes a test.

    Args:
        strength: How many values of different axes all meet in the cases that run by default.
        keep: Tells by their names which combinations there are.
        **axes: The values of each argument, by their names if they are a mapping.
    """
    named = {
        axis: values if isinstance(values, Mapping) else {str(value): value for value in values}
        for axis, values in axes.items()
    }
    cases = [names for names in product(*named.values()) if keep(**dict(zip(named, names, strict=True)))]
    chosen = cover(cases, strength)
    return pytest.mark.parametrize(
        tuple(named),
        [
            pytest.param(
                *(values[name] for values, name in zip(named.values(), names, strict=True)),
                id="-".join(names),
                marks=[] if names in chosen else pytest.mark.exhaustive,
            )
            for names in cases
        ],
    )


def cover(cases: list[tuple[str, ...]], strength: int) -> set[tuple[str, ...]]:
    """Return few of the cases, in which all values of `strength` axes meet that meet in any case.

    It takes the case with the most new meetings each time, and of several that with the values that were taken least.
    """
    meetings = {case: {*combinations(enumerate(case), strength)} for case in cases}
    missing, chosen = {meeting for each in meetings.values() for meeting in each}, set()
    taken: Counter[tuple[int, str]] = Counter()

    def gain(case: tuple[str, ...]) -> tuple[int, int]:
        return len(meetings[case] & missing), -sum(taken[value] for value in enumerate(case))

    while missing:
        best = max(cases, key=gain)
        chosen.add(best)
        taken.update(enumerate(best))
        missing -= meetings[best]
    return chosen


def default_cases(test: Any) -> list[dict[str, Any]]:
    """Return the arguments with which a test runs by default."""
    (table,) = (mark for mark in test.pytestmark if mark.name == "parametrize")
    arguments, cases = table.args
    return [
        dict(zip(arguments, case.values, strict=True))
        for case in cases
        if not any(mark.name == "exhaustive" for mark in case.marks)
    ]
