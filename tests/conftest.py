import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm.models.vgg
import torch

import timm_lp.models

from .processes import WarmPython, warm_python

pytest.register_assert_rewrite("tests.layers.comparison", "tests.ops.shapes", "tests.networks")
# The suite's tensors are tiny, and pytest-xdist runs it on every core; the processes that it starts inherit this.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
# A shell's background jobs ignore interruptions, and so would the tests of them.
signal.signal(signal.SIGINT, signal.default_int_handler)


# They take longest, and begin first: else one worker is left with the last of them while the others have nothing to do.
LONGEST = ("test_commands.py", "test_distributed.py", "test_plugin.py", "test_accelerator.py", "test_first_import.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let no test, nor a fixture that it is the first to ask for, depend on what others have drawn."""
    torch.default_generator.manual_seed(0)  # of CPUs alone: `torch.manual_seed` notes the stack for a GPU to come


def pytest_collection_finish() -> None:
    """Let garbage collection pass over the imports and the collected tests, which takes 0.3 s each time."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the exit collect what the imports left, or libraries report it as leaks."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def python() -> Iterator[WarmPython]:
    """Return what runs Python in a process of its own, as a user starts it."""
    with warm_python() as start:
        yield start


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let matplotlib not be installed: pictures take longer than the networks here."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """Let garbage collection be as it is in a process that a user starts."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Close the way to the Hub, empty the cache, and let nothing wait; return an address at which nobody answers."""
    from .hub_export.conftest import silent_address, use

    def wait(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s")

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=wait))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with silent_address() as address:
        use(address, monkeypatch)
        yield address


@pytest.fixture
def narrow_classics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VGG and AlexNet narrow, which no argument of theirs does."""
    channels = [c if isinstance(c, str) else c // 8 for c in timm.models.vgg.cfgs["vgg16"]]
    monkeypatch.setitem(timm.models.vgg.cfgs, "vgg16", channels)
    monkeypatch.setattr(timm_lp.models.alexnet, "_HIDDEN_SIZE", 64)
