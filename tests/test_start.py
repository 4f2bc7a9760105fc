from typing import Any

import pytest

from timm_lp.start import Start, pretrained_start

HUB = {"hf_hub_id": "timm/cats", "license": "mit"}
URL = {"url": "https://example.org/cats.pth"}
FILE = {"file": "/home/me/cats.pth"}


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({}, None),
        (URL, Start("url", url="https://example.org/cats.pth")),
        ({"url": ("https://example.org/cats.pth", "5f")}, Start("url", url="https://example.org/cats.pth")),
        ({**HUB, **URL}, Start("hub", hub_id="timm/cats", license="mit")),
        ({**HUB, **URL, **FILE}, Start("checkpoint", file="cats.pth")),
        ({**HUB, **URL, **FILE, "state_dict": {"a": 1}}, None),
        ({**HUB, **FILE, "source": "hf-hub"}, Start("hub", hub_id="timm/cats", license="mit")),
        ({"hf_hub_id": "me/cats@v1", "license": ["mit"]}, Start("hub", hub_id="me/cats")),
    ],
)
def test_weights_are_those_that_timm_loads(config: dict[str, Any], start: Start | None) -> None:
    assert pretrained_start(config) == start


def test_a_record_has_what_is_known() -> None:
    assert Start("random").as_dict() == {"kind": "random"}
    assert Start("hub", hub_id="timm/cats").as_dict() == {"kind": "hub", "hub_id": "timm/cats"}
