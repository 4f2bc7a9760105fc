import shlex
from pathlib import Path

import pytest

from timm_lp.fewshot.config import FewShotConfig
from timm_lp.fewshot.flags import command_line, parse_arguments


def _parse(*arguments: str) -> FewShotConfig:
    return parse_arguments(arguments)[0]


def test_no_arguments_mean_the_embedded_digits() -> None:
    config, action = parse_arguments([])
    assert (config.dataset, config.pretrained, config.model, action) == (["digits"], False, "resnet18", "run")


def test_naming_a_model_or_dataset_means_the_defaults() -> None:
    assert _parse("--model", "resnet34").epochs == FewShotConfig().epochs
    assert _parse("--dataset", "dtd", "pets").model == FewShotConfig().model
    assert _parse("--dataset", "dtd", "pets").dataset == ["dtd", "pets"]


def test_flags_win_over_the_recipe_and_that_over_the_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "lr: 0.5\nepochs: 7\nvariants: [base]\ndataset: dtd\nshots: all\nmodel_kwargs: {layers: [1, 1]}\n"
    )
    config = _parse("--config", str(recipe), "--epochs", "3", "--seeds", "4", "5", "--no-pretrained")
    assert (config.lr, config.epochs, config.variants, config.seeds) == (0.5, 3, ["base"], [4, 5])
    assert (config.dataset, config.shots, config.model_kwargs) == (["dtd"], 0, {"layers": [1, 1]})
    assert config.pretrained is False
    assert config.smoothing == FewShotConfig().smoothing


def test_flags_are_parsed_to_the_settings_types() -> None:
    words = "--model x --model-kwargs layers=(1,2) act=relu --lr 1e-3 --img-size 64 --crop-pct 1 --shots all"
    config = _parse(*words.split(), "--lr-sweep", "1e-3", "0.1", "--mixed-precision", "bf16")
    assert config.model_kwargs == {"layers": (1, 2), "act": "relu"}
    assert (config.lr, config.img_size, config.crop_pct, config.shots) == (1e-3, 64, 1.0, 0)
    assert (config.lr_sweep, config.mixed_precision) == ([1e-3, 0.1], "bf16")


@pytest.mark.parametrize(("flag", "action"), [("--report", "report"), ("--measure-loading", "measure")])
def test_other_actions(flag: str, action: str) -> None:
    assert parse_arguments([flag])[1] == action


@pytest.mark.parametrize(
    "flags",
    [["--sampler", "random"], ["--mixed-precision", "fp8"], ["--shots", "few"], ["--model-kwargs", "x"]],
    ids=str,
)
def test_flags_with_other_values_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(flags)
    assert f"argument {flags[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rate: 1", "learning_rate"),
        ("[1, 2]", "[1, 2]"),
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
        parse_arguments(["--config", str(recipe)])
    error = capsys.readouterr().err
    assert "`--config` must" in error
    assert message in error


def test_the_command_repeats_the_settings(tmp_path: Path) -> None:
    checkpoint = tmp_path / "my base.safetensors"
    checkpoint.touch()
    words = (
        "--model resnet34 --model-kwargs layers=[1,1] --dataset dtd a/b --no-pretrained --lr 0.003 --shots 4 --compile"
    )
    config = _parse(*words.split(), "--seeds", "3", "--checkpoint", str(checkpoint), "--output-dir", "elsewhere")
    command = command_line(config, seeds=[7], lr_sweep=[])
    assert command.startswith("accelerate launch finetune.py --model resnet34 ")
    again = _parse(*shlex.split(command)[3:])
    assert again.trial_settings() == config.trial_settings()
    assert (again.dataset, again.variants, again.seeds) == (config.dataset, config.variants, [7])
    assert "elsewhere" not in command
