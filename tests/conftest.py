import gc
import os
import signal
from collections.abc import Iterator

import pytest
import torch

pytest.register_assert_rewrite("tests.layers.comparison", "tests.ops.shapes", "tests.networks")
# The suite's tensors are tiny, and pytest-xdist runs it on every core; the processes that it starts inherit this.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
# A shell's background jobs ignore interruptions, and so would the tests of them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let garbage collection pass over the imports and the collected tests, which takes 0.3 s each time."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the exit collect what the imports left, or libraries report it as leaks."""
    gc.unfreeze()


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """Let garbage collection be as it is in a process that a user starts."""
    gc.unfreeze()
    yield
    gc.freeze()
