from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """Let each test choose its number format: Accelerate keeps a process's first one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
