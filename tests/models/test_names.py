"""The registry that finds names when they are asked for, and a timm whose registry is another."""

import copy
from itertools import product
from typing import Any

import pytest
import timm
from timm.models import _registry

from timm_lp.models import names

TABLES = ("_model_entrypoints", "_model_pretrained_cfgs", "_model_default_cfgs", "_model_has_pretrained")


class Table(dict[str, Any]):
    """What another timm could keep its models in."""


def refuse(name: str) -> None:
    raise AssertionError(f"asked for {name}")


@pytest.mark.parametrize(
    ("lacks", "table"), [("module", ""), *product(["name"], TABLES), *product(["kind"], TABLES[::3])]
)
def test_another_timm_knows_the_papers_networks(
    lacks: str, table: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in TABLES:  # as they are before this package is imported
        content = getattr(_registry, name)
        monkeypatch.setattr(_registry, name, set(content) if isinstance(content, set) else dict(content))
    before = {name: getattr(_registry, name) for name in TABLES}
    if lacks == "module":
        monkeypatch.setattr(names, "_registry", None)
    elif lacks == "kind":
        before[table] = Table.fromkeys(before[table]) if isinstance(before[table], set) else Table(before[table])
        monkeypatch.setattr(_registry, table, before[table])
    else:
        monkeypatch.delattr(_registry, table)
    names.register_when_asked(refuse)
    assert caplog.messages == [
        "This timm keeps its models elsewhere, so that it knows the paper's networks with masks alone."
    ]
    if lacks != "name":
        assert all(getattr(_registry, name) is content for name, content in before.items())
        assert timm.create_model("lp2_resnet18", channels=(8, 8, 8, 8), num_classes=2).num_classes == 2
        assert not timm.is_model("lp2_resnet10t")


def test_asking_twice_and_copies() -> None:
    before = {name: getattr(_registry, name) for name in TABLES}
    names.register_when_asked(refuse)
    assert all(getattr(_registry, name) is content for name, content in before.items())
    assert all(copy.deepcopy(content) == content for content in before.values())
