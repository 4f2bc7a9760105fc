from collections.abc import Iterator

import pytest
import timm.models.vgg
import torch

import timm_lp.models


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small run faster without threads, all the more beside other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def narrow_classics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VGG and AlexNet narrow, which no argument of theirs does."""
    channels = [c if isinstance(c, str) else c // 8 for c in timm.models.vgg.cfgs["vgg16"]]
    monkeypatch.setitem(timm.models.vgg.cfgs, "vgg16", channels)
    monkeypatch.setattr(timm_lp.models.alexnet, "_HIDDEN_SIZE", 64)
