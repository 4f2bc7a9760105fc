import shlex
from pathlib import Path

import pytest

from timm_lp.experiments.classification.config import FinetuneConfig
from timm_lp.experiments.classification.flags import command_line, parse_arguments


def _parse(*arguments: str) -> FinetuneConfig:
    return parse_arguments(arguments)[0]


def test_no_arguments_mean_the_embedded_digits() -> None:
    config, action = parse_arguments([])
    assert (config.dataset, config.pretrained, config.model, action) == (["digits"], False, ["resnet18"], "run")


def test_naming_a_model_or_dataset_means_the_defaults() -> None:
    assert _parse("--model", "resnet34").epochs == FinetuneConfig().epochs
    assert _parse("--dataset", "dtd", "pets").model == FinetuneConfig().model
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
    assert config.smoothing == FinetuneConfig().smoothing


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
        (b"learning_rate: 1", r"hold settings that --help lists, got \['learning_rate'\] in .*recipe\.yaml"),
        (b"1: 2\nlearning_rate: 1", r"hold settings that --help lists, got \['1', 'learning_rate'\] in"),
        (b"[1, 2]", r"hold settings that --help lists, got \['1', '2'\] in"),
        (b"", "hold settings that --help lists, got None in"),
        (b"a: [", r"be a readable YAML file, got .*recipe\.yaml: while parsing"),
        (b"lr:\t1\n\tepochs: 2", "be a readable YAML file, got .*: while scanning"),
        (b"\xff\xfe\x00", "be a readable YAML file, got .*recipe.yaml: 'utf-8' codec"),
        (b"lr: 1\nepochs: 2\nlr: 2", "be a readable YAML file, got .*: lr stands twice"),
        (b"model_kwargs: {layers: [1], layers: [2]}", "be a readable YAML file, got .*: layers stands twice"),
        (b"dataset: 2024-13-45", "be a readable YAML file, got .*: month must be in"),
        (None, "be a readable YAML file, got .*No such file"),
    ],
    ids=[
        "unknown",
        "number",
        "list",
        "empty",
        "broken",
        "tab",
        "binary",
        "twice",
        "twice inside",
        "no date",
        "missing",
    ],
)
def test_unusable_recipes_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    if content is not None:
        recipe.write_bytes(content)
    with pytest.raises(ValueError, match=f"`--config` must {message}") as refused:
        parse_arguments(["--config", str(recipe)])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mixed_precision: no", "no"),
        ("label_column: off", "off"),
        ("dataset_revision: 2024-01-02", "2024-01-02"),
        ("train_split: 010", "010"),
        ("image_column: null", None),
        ("dataset: [on, 1e3]", ["on", "1e3"]),
        ("epochs: 010", 10),
        ("epochs: 1_000", 1000),
        ("seeds: [010, 0]", [10, 0]),
        ("lr: 1e-3", 1e-3),
        ("compile: yes", True),
        ("compile: off", False),
        ("model_kwargs: {zero_init_last: no}", {"zero_init_last": False}),
    ],
)
def test_what_yaml_reads_otherwise_is_read_as_it_is_written(tmp_path: Path, line: str, expected: object) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(line)
    assert getattr(_parse("--config", str(recipe)), line.split(":")[0]) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs: 1:30", "`epochs` must be of type int, got '1:30'"),
        ("lr: .inf", r"`lr` must be of type float, got '\.inf'"),
        ("lr: inf", "`lr` must be at least 1e-12 and finite, got inf"),
        ("model: null", r"`model` must be a list, got None\. Write \[None\] in a recipe"),
        ("epochs:", "`epochs` must be of type int, got None"),
        ("seeds: 3", r"`seeds` must be a list, got '3'\. Write \[3\] in a recipe"),
        ("pretrained: 1", "`pretrained` must be of type bool, got 1"),
    ],
)
def test_other_values_are_refused(tmp_path: Path, line: str, message: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(line)
    with pytest.raises(ValueError, match=message):
        _parse("--config", str(recipe))


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
    assert again.trial_settings("resnet18") == config.trial_settings("resnet18")
    assert (again.dataset, again.variants, again.seeds) == (config.dataset, config.variants, [7])
    assert "elsewhere" not in command
