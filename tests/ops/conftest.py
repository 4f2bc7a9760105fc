from collections.abc import Iterator

import pytest

from .shapes import WAYS


@pytest.fixture(params=["whole", "blocks"])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Convolve with whole kernels, and in small blocks."""
    with WAYS[request.param]():
        yield


@pytest.fixture(params=WAYS)
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Convolve with whole kernels, in small blocks, and a tap at a time."""
    with WAYS[request.param]():
        yield
