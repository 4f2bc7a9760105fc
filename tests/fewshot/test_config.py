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


@pytest.mark.parametrize("setting", ["shots", "epochs", "batch_size"])
def test_counts_must_be_positive(setting: str) -> None:
    with pytest.raises(ValueError, match=f"`{setting}` must be at least 1, got 0"):
        FewShotConfig(**{setting: 0})


@pytest.mark.parametrize(("setting", "value"), [("variants", ["lp2", "lp2"]), ("seeds", [])], ids=["twice", "none"])
def test_lists_name_each_once(setting: str, value: list[object]) -> None:
    with pytest.raises(ValueError, match=f"`{setting}` must name at least one, and none twice"):
        FewShotConfig(**{setting: value})


def test_trial_settings_leave_out_what_does_not_change_a_trial() -> None:
    one = FewShotConfig(variants=["base"], seeds=[1], workers=0, output_dir="a")
    other = FewShotConfig(variants=["lp2"], seeds=[2], workers=2, output_dir="b", save_models=False)
    assert one.trial_settings() == other.trial_settings()
    assert one.trial_settings() != FewShotConfig(lr=1.0).trial_settings()
