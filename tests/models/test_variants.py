import pytest

from timm_lp.models.variants import NamedVariant, parse_variant
from timm_lp.variants import VARIANTS, variant_order, variant_prefix


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("base", NamedVariant("resnet18.a1_in1k", {})),
        ("lp2", NamedVariant("lp2_resnet18.a1_in1k", {})),
        ("lp2-paper", NamedVariant("lp2_resnet18.a1_in1k", {"preserve": False})),
        ("large-reinit", NamedVariant("large_resnet18.a1_in1k", {}, reinit=True)),
        ("lp2-paper@a,b*", NamedVariant("lp2_resnet18.a1_in1k", {"preserve": False, "lp_layers": ["a", "b*"]})),
        ("large-reinit@a", NamedVariant("large_resnet18.a1_in1k", {"lp_layers": ["a"]}, reinit=True)),
    ],
)
def test_variant_names(variant: str, expected: NamedVariant) -> None:
    assert parse_variant("resnet18.a1_in1k", variant) == expected


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("resnet18", "lp3", "got 'lp3' of 'resnet18'. Variants of resnet18: base, large, lp2, lp4"),
        ("resnet18", "large-paper", "got 'large-paper' of"),
        ("resnet18", "lp2-reinit", "got 'lp2-reinit' of"),
        ("resnet18", "base-paper", "got 'base-paper' of"),
        ("resnet18", "base@layer1", "got 'base@layer1' of"),
        ("mobilenetv3_small_100", "lp3", "Variants of mobilenetv3_small_100: base, large, lp2"),
        ("resnet17", "base", "Variants of resnet17: none, it is unknown;"),
    ],
)
def test_unknown_variants_are_refused(model: str, variant: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_variant(model, variant)


def test_variants_stand_in_the_papers_order() -> None:
    names = ["lp16", "lp2@layer1", "lp2-paper", "large-reinit", "lp2", "other", "base", "large", "lp16-paper"]
    expected = ["base", "large", "large-reinit", "lp2", "lp2-paper", "lp2@layer1", "lp16", "lp16-paper", "other"]
    assert sorted(names, key=variant_order) == expected


@pytest.mark.parametrize("variant", [variant.prefix for variant in VARIANTS])
def test_every_registered_variant_has_its_forms(variant: str) -> None:
    forms = ("", "-reinit") if variant == "large" else ("", "-paper")
    for form in forms:
        assert variant_prefix(variant + form) == variant
        assert parse_variant("resnet18", variant + form).model == f"{variant}_resnet18"
    if variant != "large":
        assert parse_variant("resnet18", f"{variant}-paper").options == {"preserve": False}
