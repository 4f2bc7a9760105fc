from dataclasses import fields, replace
from pathlib import Path

import pytest

from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.settings import rule_of


# Values that no run could use, beside those that the type of each number refuses.
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("shots", -1, "`shots` must be at least 0, got -1"),
        ("clip_grad", 0, "`clip_grad` must be at least 1e-12 and finite, got 0.0"),
        ("lr_sweep", [0.1, 0.0], "`lr_sweep` must be at least 1e-12 and finite, got 0.0"),
        ("crop_scale_min", 0, "`crop_scale_min` must be between 0.01 and 1, got 0.0"),
        ("workers", 5000, "`workers` must be between 0 and 1,024, got 5000"),
        ("layer_decay", 0.0, "`layer_decay` must be between 1e-06 and 1, got 0.0"),
        ("seeds", [2**32], "`seeds` must be between 0 and 4,294,967,295, got 4294967296"),
        ("sampler", "random", "`sampler` must be nested or coop, got 'random'"),
        ("ratio", [1.5, 0.5], r"`ratio` must be two numbers, the least first, got \[1\.5, 0\.5\]"),
        ("ratio", [1.0], r"`ratio` must be two numbers, the least first, got \[1\.0\]"),
        ("track_share", 0.1, r"`track_share` must come with track_accuracy, got 0\.1 alone"),
        ("mixed_precision", "fp8", "`mixed_precision` must be no or fp16 or bf16, got 'fp8'"),
    ],
)
def test_settings_are_checked(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**{setting: value})


def test_numbers_are_finite() -> None:
    """Which limits see to, so that each number has some."""
    for setting in fields(FinetuneConfig):
        assert rule_of(setting).kind is not float or rule_of(setting).limits, setting.name


@pytest.mark.parametrize(
    "name",
    [
        *("num_classes", "in_chans", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "features_only"),
        *("checkpoint_path", "scriptable", "exportable", "cache_dir", "preserve", "lp_layers"),
    ],
)
def test_arguments_that_the_benchmark_decides_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`model_kwargs` must not hold what .* decides, got {name}=1\. Leave it out"):
        FinetuneConfig(model_kwargs={"layers": [1], name: 1})


def test_arguments_of_one_network() -> None:
    config = FinetuneConfig(
        model=["a", "b"], model_kwargs={"global_pool": "max", "b": {"layers": [1], "global_pool": "avg"}}
    )
    assert config.kwargs_of("a") == {"global_pool": "max"}
    assert config.kwargs_of("b") == {"global_pool": "avg", "layers": [1]}
    assert config.trial_settings("b")["model_kwargs"] == config.kwargs_of("b")
    others = FinetuneConfig(
        model="a", model_kwargs={"layers": [1], "vgg16": {"drop_rate": 0.5}, "resnet18.a1_in1k": {}}
    )
    assert others.kwargs_of("a") == {"layers": [1]}, "those of networks that a recipe names and the flags do not"
    with pytest.raises(
        ValueError, match=r"`model_kwargs` must hold a network's arguments under its name, got 3 for b\."
    ):
        FinetuneConfig(model=["a", "b"], model_kwargs={"b": 3})
    with pytest.raises(ValueError, match=r"`model_kwargs` must not hold what .* decides, got num_classes=3\."):
        FinetuneConfig(model=["a", "b"], model_kwargs={"b": {"num_classes": 3}})


def test_layers_are_part_of_the_variants_names() -> None:
    config = FinetuneConfig(variants=["base", "lp2", "large@depthwise", "lp2@b,a"], lp_layers=["layer3", "layer[12]"])
    assert config.variants == ["base", "lp2@layer3,layer[12]", "large@depthwise", "lp2@a,b"]
    assert config == replace(config), "it names them once"
    assert FinetuneConfig(variants=["lp2"], lp_layers=["b,a"]).variants == ["lp2@a,b"]
    usual = FinetuneConfig(variants=["base"])
    assert usual.trial_settings("resnet18") == config.trial_settings("resnet18"), "as records of earlier runs have them"
    with pytest.raises(ValueError, match=r"`model` must be a name of timm's, or a class .*, got 'my/nets:Net'"):
        FinetuneConfig(model="my/nets:Net")
    for settings, message in (
        *(
            ({"lp_layers": ["layer1"], "variants": names}, rf"that convert layers and name none, got {' '.join(names)}")
            for names in (["base"], ["base", "lp2@layer2", "large@layer3"])
        ),
        ({"lp_layers": ["../x"]}, r"must be names of layers, .*got 'large@\.\./x'"),
        ({"lp_layers": [""]}, "must be names of layers"),
        ({"lp_layers": [f"layer{number}" for number in range(30)]}, "in at most 120 letters with the variant's"),
        ({"variants": ["lp2@a@b"]}, "must be names"),
    ):
        with pytest.raises(ValueError, match=rf"`lp_layers` .*{message}"):
            FinetuneConfig(**settings)
    with pytest.raises(ValueError, match="`variants` must name at least one, and none twice"):
        FinetuneConfig(variants=["lp2@a,b", "lp2@b,a"])


def test_a_small_stem_is_part_of_the_networks_name() -> None:
    kwargs = {"resnet18": {"zero_init_last": False}}
    config = FinetuneConfig(model=["resnet18", "vgg16"], small_stem=True, model_kwargs=kwargs)
    assert config == FinetuneConfig(
        model=["resnet18_small_stem", "vgg16"], model_kwargs={"resnet18_small_stem": kwargs["resnet18"]}
    )
    assert FinetuneConfig(model="resnet18_small_stem", small_stem=True).model == ["resnet18_small_stem"]
    with pytest.raises(ValueError, match=r"`small_stem` must be used with networks .* got vgg16\. Leave it out\."):
        FinetuneConfig(model=["vgg16"], small_stem=True)
    with pytest.raises(ValueError, match=r"must be one of alexnet, .* got 'resnet26'"):
        FinetuneConfig(model=["resnet26"], small_stem=True)


def test_drop_path_is_told_once() -> None:
    assert FinetuneConfig(model_kwargs={"drop_path_rate": 0.1, "global_pool": "max"}).drop_path_rate is None
    with pytest.raises(ValueError, match=r"`model_kwargs` must not hold .*, got drop_path_rate=0\.1"):
        FinetuneConfig(model_kwargs={"drop_path_rate": 0.1}, drop_path_rate=0.2)


@pytest.mark.parametrize("value", ["false", "no", "Off"])
def test_truth_values_of_other_languages_are_refused(value: str) -> None:
    """A network would take the text for true."""
    with pytest.raises(
        ValueError, match=f"must have True and False as Python writes them, got zero_init_last='{value}'"
    ):
        FinetuneConfig(model_kwargs={"zero_init_last": value})


@pytest.mark.parametrize("repo", ["net", "a/b/c", "", "me/net.", "me/ä"])
def test_a_name_that_the_hub_does_not_allow_is_refused_before_the_training(repo: str) -> None:
    with pytest.raises(ValueError, match=f"`push_to_hub` must be org/name as the Hub allows it, got '{repo}'"):
        FinetuneConfig(push_to_hub=repo)


def test_values_may_be_written_as_yaml_reads_them() -> None:
    config = FinetuneConfig(lr="1e-3", weight_decay=0, seeds=(1, "2"), dataset="dtd", shots="all")
    assert (config.lr, config.weight_decay, config.seeds) == (1e-3, 0.0, [1, 2])
    assert (config.dataset, config.shots) == (["dtd"], 0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("variants", []),
        ("seeds", [1, 1]),
        ("dataset", ["a", "a"]),
        ("lr_sweep", [0.1, 0.1]),
        ("model", ["a", "a"]),
    ],
    ids=["no variant", "seed twice", "data set twice", "rate twice", "model twice"],
)
def test_lists_name_each_once(setting: str, value: list[object]) -> None:
    with pytest.raises(ValueError, match=f"`{setting}` must name at least one, and none twice"):
        FinetuneConfig(**{setting: value})


@pytest.mark.parametrize("settings", [{"dataset": ["dtd", "pets"]}, {"model": ["a", "b"]}, {"save_models": False}])
def test_one_best_trial_is_pushed(settings: dict[str, object]) -> None:
    with pytest.raises(
        ValueError, match="`push_to_hub` must be used with one data set, one model and saved models, got 'me/net'"
    ):
        FinetuneConfig(push_to_hub="me/net", **settings)


def test_a_checkpoint_is_of_one_network(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`checkpoint` must be used with one model, got 'w\.pth' with a, b\. Run each"
    ):
        FinetuneConfig(model=["a", "b"], checkpoint="w.pth")


def test_trial_settings_leave_out_what_does_not_change_a_trial() -> None:
    one = FinetuneConfig(variants=["base"], seeds=[1], output_dir="a")
    other = FinetuneConfig(variants=["lp2"], seeds=[2], output_dir="b", save_models=False, workers=2, dataset=["dtd"])
    other = replace(other, model=["a", "b"], shots=4)  # the record has these beside the settings
    assert one.trial_settings("resnet18") == other.trial_settings("resnet18")
    assert one.trial_settings("resnet18") != FinetuneConfig(lr=1.0).trial_settings("resnet18")


def test_a_checkpoint_counts_by_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"one")
    before = FinetuneConfig(checkpoint=str(path)).trial_settings("resnet18")
    assert before == FinetuneConfig(checkpoint=str(path)).trial_settings("resnet18")
    path.write_bytes(b"two")
    assert before != FinetuneConfig(checkpoint=str(path)).trial_settings("resnet18")


def test_newer_settings_are_recorded_where_they_are_given_alone() -> None:
    """So that a run that was begun before they were there goes on."""
    newer = {"jpeg_draft": True, "test_share": 0.3}
    assert not FinetuneConfig().trial_settings("resnet18").keys() & newer.keys()
    given = FinetuneConfig(**newer).trial_settings("resnet18")
    assert {name: given[name] for name in newer} == newer
