from pathlib import Path

import pytest

from timm_lp.fewshot.config import FewShotConfig


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("shots", -1, "`shots` must be between 0 and inf, got -1"),
        ("clip_grad", -1, "`clip_grad` must be between 0 and inf, got -1.0"),
        ("hflip", 3, "`hflip` must be between 0 and 1, got 3.0"),
        ("layer_decay", 0.0, "`layer_decay` must be between 1e-06 and 1, got 0.0"),
        ("crop_pct", float("nan"), "`crop_pct` must be between 0.01 and 1, got nan"),
        ("epochs", 2.5, "`epochs` must be of type int, got 2.5"),
        ("lr", "fast", "`lr` must be of type float, got 'fast'"),
        ("pretrained", "false", "`pretrained` must be of type bool, got 'false'"),
        ("seeds", 3, "`seeds` must be a list, got 3"),
        ("seeds", [2**32], "`seeds` must be between 0 and 4.29497e\\+09, got 4294967296"),
        ("seeds", ["a"], "`seeds` must be of type int, got 'a'"),
        ("variants", "lp2", "`variants` must be a list, got 'lp2'"),
        ("model_kwargs", [1], r"`model_kwargs` must be of type dict, got \[1\]"),
        ("sampler", "random", "`sampler` must be nested or coop, got 'random'"),
        ("mixed_precision", "fp8", "`mixed_precision` must be no or fp16 or bf16, got 'fp8'"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) and " " not in value else None,
)
def test_settings_are_checked(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FewShotConfig(**{setting: value})


def test_values_may_be_written_as_yaml_reads_them() -> None:
    config = FewShotConfig(lr="1e-3", weight_decay=0, seeds=(1, 2), dataset="dtd", shots="all")
    assert (config.lr, config.weight_decay, config.seeds) == (1e-3, 0.0, [1, 2])
    assert (config.dataset, config.shots) == (["dtd"], 0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("variants", ["lp2", "lp2"]), ("seeds", []), ("dataset", ["a", "a"]), ("lr_sweep", [0.1, 0.1])],
    ids=["variant twice", "no seed", "data set twice", "rate twice"],
)
def test_lists_name_each_once(setting: str, value: list[object]) -> None:
    with pytest.raises(ValueError, match=f"`{setting}` must name at least one, and none twice"):
        FewShotConfig(**{setting: value})


@pytest.mark.parametrize("settings", [{"dataset": ["dtd", "pets"]}, {"save_models": False}], ids=["two", "unsaved"])
def test_one_best_trial_is_pushed(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="`push_to_hub` must be used with one data set and saved models, got 'me/net'"):
        FewShotConfig(push_to_hub="me/net", **settings)


def test_trial_settings_leave_out_what_does_not_change_a_trial() -> None:
    one = FewShotConfig(variants=["base"], seeds=[1], output_dir="a")
    other = FewShotConfig(variants=["lp2"], seeds=[2], output_dir="b", save_models=False, workers=2, dataset=["dtd"])
    assert one.trial_settings() == other.trial_settings()
    assert one.trial_settings() != FewShotConfig(lr=1.0).trial_settings()


def test_a_checkpoint_counts_by_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"one")
    before = FewShotConfig(checkpoint=str(path)).trial_settings()
    assert before == FewShotConfig(checkpoint=str(path)).trial_settings()
    path.write_bytes(b"two")
    assert before != FewShotConfig(checkpoint=str(path)).trial_settings()
