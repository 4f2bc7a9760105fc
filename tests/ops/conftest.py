from collections.abc import Iterator

import pytest

from .shapes import WAYS


@pytest.fixture(params=WAYS)
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Convolve with whole kernels, in small blocks, and a tap at a time."""
    with WAYS[request.param]():
        yield
