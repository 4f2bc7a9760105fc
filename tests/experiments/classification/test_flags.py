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
    assert _parse("--epochs", "2").model == ["resnet18"]


def test_naming_a_model_or_dataset_means_the_defaults() -> None:
    assert _parse("--model", "resnet34").epochs == FinetuneConfig().epochs
    assert _parse("--dataset", "dtd", "pets").model == FinetuneConfig().model
    assert _parse("--dataset", "dtd", "pets").dataset == ["dtd", "pets"]


def test_shots_are_a_number_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (_parse("--shots", "all").shots, _parse("--shots", "4").shots) == (0, 4)
    (tmp_path / "recipe.yaml").write_text("shots: all\ndataset: dtd\n")
    config = _parse("--config", str(tmp_path / "recipe.yaml"))
    assert (config.shots, config.dataset) == (0, ["dtd"])
    with pytest.raises(SystemExit, match=r"^2$"):
        _parse("--shots", "few")
    assert "argument --shots: invalid number of shots value: 'few'" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "action"), [("--report", "report"), ("--measure-loading", "measure")])
def test_other_actions(flag: str, action: str) -> None:
    assert parse_arguments([flag])[1] == action


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
