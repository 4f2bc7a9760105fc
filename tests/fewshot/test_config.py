from pathlib import Path

import pytest

from timm_lp.fewshot.config import FewShotConfig, parse_config


def test_no_arguments_mean_the_embedded_digits() -> None:
    config = parse_config([])
    assert (config.dataset, config.pretrained, config.model) == ("digits", False, "resnet18")


def test_naming_a_model_or_dataset_means_the_defaults() -> None:
    assert parse_config(["--model", "resnet34"]).epochs == FewShotConfig().epochs
    assert parse_config(["--dataset", "flowers"]).model == FewShotConfig().model


def test_flags_win_over_the_recipe_and_that_over_the_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("lr: 0.5\nepochs: 7\nvariants: [base]\nmodel_kwargs: {layers: [1, 1, 1, 1]}\n")
    config = parse_config(["--config", str(recipe), "--epochs", "3", "--seeds", "4", "5", "--no-pretrained"])
    assert (config.lr, config.epochs, config.variants, config.seeds) == (0.5, 3, ["base"], [4, 5])
    assert config.model_kwargs == {"layers": [1, 1, 1, 1]}
    assert config.pretrained is False
    assert config.shots == FewShotConfig().shots


def test_flags_are_parsed_to_the_settings_types() -> None:
    config = parse_config(
        [
            "--model",
            "x",
            "--model-kwargs",
            "layers=(1, 2)",
            "act=relu",
            "--lr",
            "1e-3",
            "--img-size",
            "64",
            "--crop-pct",
            "1",
        ]
    )
    assert config.model_kwargs == {"layers": (1, 2), "act": "relu"}
    assert (config.lr, config.img_size, config.crop_pct) == (1e-3, 64, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rate: 1", "learning_rate"),
        ("[1, 2]", r"\[1, 2\]"),
        ("a: [", "readable YAML"),
        (None, "readable YAML"),
    ],
    ids=["unknown", "list", "broken", "missing"],
)
def test_unusable_recipes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    if content is not None:
        recipe.write_text(content)
    with pytest.raises(SystemExit):
        parse_config(["--config", str(recipe)])
    error = capsys.readouterr().err
    assert "`--config` must" in error
    assert message.replace("\\", "") in error


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("shots", 0, "`shots` must be between 1 and inf, got 0"),
        ("clip_grad", -1, "`clip_grad` must be between 0 and inf, got -1.0"),
        ("hflip", 3, "`hflip` must be between 0 and 1, got 3.0"),
        ("layer_decay", 0.0, "`layer_decay` must be between 1e-06 and 1, got 0.0"),
        ("crop_pct", float("nan"), "`crop_pct` must be between 0.01 and 1, got nan"),
        ("epochs", 2.5, "`epochs` must be of type int, got 2.5"),
        ("lr", "fast", "`lr` must be of type float, got 'fast'"),
        ("pretrained", "false", "`pretrained` must be of type bool, got 'false'"),
        ("seeds", 3, "`seeds` must be a list, got 3"),
        ("seeds", ["a"], "`seeds` must be of type int, got 'a'"),
        ("variants", "lp2", "`variants` must be a list, got 'lp2'"),
        ("model_kwargs", [1], r"`model_kwargs` must be of type dict, got \[1\]"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) and " " not in value else None,
)
def test_settings_are_checked(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FewShotConfig(**{setting: value})


def test_numbers_may_be_written_as_yaml_reads_them() -> None:
    config = FewShotConfig(lr="1e-3", weight_decay=0, seeds=(1, 2))
    assert (config.lr, config.weight_decay, config.seeds) == (1e-3, 0.0, [1, 2])


@pytest.mark.parametrize(("setting", "value"), [("variants", ["lp2", "lp2"]), ("seeds", [])], ids=["twice", "none"])
def test_lists_name_each_once(setting: str, value: list[object]) -> None:
    with pytest.raises(ValueError, match=f"`{setting}` must name at least one, and none twice"):
        FewShotConfig(**{setting: value})


def test_trial_settings_leave_out_what_does_not_change_a_trial() -> None:
    one = FewShotConfig(variants=["base"], seeds=[1], output_dir="a")
    other = FewShotConfig(variants=["lp2"], seeds=[2], output_dir="b", save_models=False)
    assert one.trial_settings() == other.trial_settings()
    assert one.trial_settings() != FewShotConfig(lr=1.0).trial_settings()
    assert one.trial_settings() != FewShotConfig(workers=1).trial_settings()
