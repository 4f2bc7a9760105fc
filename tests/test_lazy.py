from types import ModuleType

import pytest

import timm_lp.experiments.receptive_fields as fields


def test_a_name_is_imported_when_it_is_used() -> None:
    assert fields.fit_mpnd.__module__ == "timm_lp.experiments.receptive_fields.fit"
    assert {*fields.__all__} <= {*dir(fields)}
    assert isinstance(fields.density, ModuleType)


def test_another_name_is_said() -> None:
    with pytest.raises(AttributeError, match=r"receptive_fields' has no attribute 'fit_it'"):
        fields.fit_it  # noqa: B018 # it is looked up
