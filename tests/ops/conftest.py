from collections.abc import Iterator

import pytest

from .shapes import small_blocks


@pytest.fixture(params=["whole", "blocks"])
def blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "whole":
        yield
        return
    with small_blocks():
        yield
