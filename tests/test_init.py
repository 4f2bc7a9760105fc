from importlib.metadata import entry_points, version

import pytest

import timm_lp
import timm_lp.convert
import timm_lp.layers
from timm_lp import plugin


@pytest.mark.parametrize(
    ("name", "home"),
    [("LpConv2d", timm_lp.layers), ("lp_mask", timm_lp.layers), ("lp_convert", timm_lp.convert)],
    ids=["LpConv2d", "lp_mask", "lp_convert"],
)
def test_names_come_from_where_they_live(name: str, home: object) -> None:
    assert getattr(timm_lp, name) is getattr(home, name)
    assert name in timm_lp.__all__
    assert name in dir(timm_lp)


def test_all_names_are_there() -> None:
    namespace: dict[str, object] = {}
    exec("from timm_lp import *", namespace)
    assert sorted(name for name in namespace if not name.startswith("__")) == sorted(timm_lp.__all__)
    assert "__version__" in dir(timm_lp)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"^module 'timm_lp' has no attribute 'nothing'$"):
        timm_lp.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'timm_lp'"):
        exec("from timm_lp import nothing")


def test_installed_as_what_it_says() -> None:
    assert version("timm-lp") == timm_lp.__version__
    (entry_point,) = entry_points(group="torch.backends", name="timm_lp")
    assert entry_point.load() is plugin.install
