import gc
import os
import signal
from collections.abc import Iterator

import pytest
import timm.models.vgg
import torch

import timm_lp.models

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


@pytest.fixture
def narrow_classics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VGG and AlexNet narrow, which no argument of theirs does."""
    channels = [c if isinstance(c, str) else c // 8 for c in timm.models.vgg.cfgs["vgg16"]]
    monkeypatch.setitem(timm.models.vgg.cfgs, "vgg16", channels)
    monkeypatch.setattr(timm_lp.models.alexnet, "_HIDDEN_SIZE", 64)
