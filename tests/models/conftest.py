import pytest
import timm.models.vgg

import timm_lp.models


@pytest.fixture
def narrow_classics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make VGG and AlexNet narrow, which no argument of theirs does."""
    channels = [c if isinstance(c, str) else c // 8 for c in timm.models.vgg.cfgs["vgg16"]]
    monkeypatch.setitem(timm.models.vgg.cfgs, "vgg16", channels)
    monkeypatch.setattr(timm_lp.models.alexnet, "_HIDDEN_SIZE", 64)
