from collections.abc import Iterator

import pytest

from timm_lp.ops import operators

FEW_NUMBERS = operators._FEW_NUMBERS


@pytest.fixture(autouse=True)
def _no_layer_is_small() -> Iterator[None]:
    """Let the layers of these tests, which are small, train in the way of larger ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "_FEW_NUMBERS", 0)
        yield
