from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from timm_lp.experiments.classification.results import figures, trial_record
from timm_lp.experiments.classification.trial import EvalImages, Outcome, Trial, run_trial
from timm_lp.experiments.data.images import DataSet
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import EvalPixels, Normalize, eval_transform
from timm_lp.experiments.data.sampling import draw
from timm_lp.trials.checkpoint import CHECKPOINT_FILE, CheckpointFile
from timm_lp.trials.record import DivergedError

from ..conftest import forget_format
from ..images import make_parquet
from ..networks import accuracy, config

DIGITS = load_data("digits")
TRIAL = Trial(DIGITS, "resnet18", "base", 1)
SETTINGS = {"shots": 2, "epochs": 1, "batch_size": 10}


def _run(trial: Trial, folder: Path | None = None, **settings: object) -> Outcome:
    chosen = config(**{**SETTINGS, **settings})
    file = CheckpointFile(folder / CHECKPOINT_FILE, {}, 0) if folder else None
    return run_trial(chosen, trial, EvalImages(trial.data), Accelerator(), lambda progress: None, file)


def test_a_trial_reports_what_it_did() -> None:
    outcome = _run(Trial(DIGITS, "resnet18", "lp2", 3))
    assert outcome.metrics.keys() == {"top1", "mean_per_class"}
    assert (len(outcome.tested), len(outcome.drawn.train), outcome.progress.epochs) == (797, 20, 1)
    assert outcome.data_config["input_size"] == (3, 32, 32)
    assert outcome.progress.train_seconds > outcome.progress.data_wait_seconds > 0
    assert outcome.peak_memory_mib is None or outcome.peak_memory_mib > 50


def test_followed_accuracy_counts_the_training_images_unaugmented() -> None:
    outcome = _run(TRIAL, track_accuracy=True, reprob=1.0)
    images, data_config = outcome.drawn.train, outcome.data_config
    pixels = torch.stack([pixels for pixels, _ in EvalPixels(images, eval_transform(data_config), limit_mib=64)])
    expected = accuracy(outcome.model, Normalize(data_config)(pixels), images.own_labels())
    assert outcome.metrics["train_top1"] == expected
    assert len(outcome.progress.top1) == 1
    assert outcome.progress.top1[-1] == outcome.metrics["top1"]


def test_a_share_of_the_images_is_followed() -> None:
    """Evenly over their order, and the last test is of all."""
    outcome = _run(TRIAL, track_accuracy=True, track_share=0.1)
    part, data_config = DIGITS.test.share(0.1), outcome.data_config
    assert (len(part), list(part.indices[:3])) == (80, [1000, 1009, 1019])
    pixels = torch.stack([pixels for pixels, _ in EvalPixels(part, eval_transform(data_config), limit_mib=64)])
    assert outcome.progress.top1[-1] == accuracy(outcome.model, Normalize(data_config)(pixels), part.own_labels())
    assert (len(outcome.tested), outcome.metrics.keys()) == (797, {"top1", "mean_per_class", "train_top1"})


def test_a_trial_that_diverges_in_its_last_step_fails() -> None:
    with pytest.raises(DivergedError, match=r"the outputs on \d+ of 797 test images are infinite or not a number"):
        _run(TRIAL, lr=1e30, batch_size=20)


def test_seeds_settle_images_and_weights() -> None:
    one, two = (_run(Trial(DIGITS, "resnet18", "base", seed)) for seed in (1, 2))
    drawn = [draw(DIGITS, "nested", 2, seed).train.indices for seed in (1, 2)]
    assert [one.drawn.train.indices, two.drawn.train.indices] == drawn
    assert not torch.equal(one.model.conv1.weight, two.model.conv1.weight)
    assert one.progress.losses != two.progress.losses
    assert _run(TRIAL).metrics == one.metrics


def test_speed_counts_the_images_that_were_trained_on() -> None:
    outcome = _run(TRIAL, batch_size=15)
    details = figures(config(**{**SETTINGS, "batch_size": 15}), DIGITS, outcome)["details"]
    assert details["train_images_per_second"] == pytest.approx(15 / outcome.progress.train_seconds)


def test_a_learning_rate_is_tried_on_held_out_training_images() -> None:
    outcome = _run(Trial(DIGITS, "resnet18", "base", 1, held_out=True, lr=1e-3))
    assert len(outcome.tested) == 20
    outcome = _run(Trial(DIGITS, "resnet18", "base", 1, held_out=True, lr=1e-3), shots=0, batch_size=200)
    assert len(outcome.tested) == sum(
        len(DIGITS.train.own_labels()[DIGITS.train.own_labels() == k]) // 5 for k in range(10)
    )
    assert len(outcome.drawn.train) == len(DIGITS.train) - len(outcome.tested)
    assert not set(outcome.drawn.train.indices) & set(outcome.drawn.held_out.indices)


def test_no_images_to_hold_out_is_said(tmp_path: Path) -> None:
    make_parquet(tmp_path, {"train": 2, "test": 1})
    data: DataSet = load_data(str(tmp_path))
    with pytest.raises(ValueError, match=r"`lr_sweep` must have images to choose with, got none of .* Lower --shots"):
        _run(Trial(data, "resnet18", "base", 1, held_out=True, lr=1e-3), batch_size=3)


def test_test_images_are_decoded_once() -> None:
    images = EvalImages(DIGITS)
    small = {
        "input_size": (3, 8, 8),
        "interpolation": "bilinear",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "crop_pct": 1.0,
    }
    first = images.pixels(small, 1, 100)
    assert images.pixels(dict(reversed(small.items())), 2, 100) is first
    assert images.pixels({**small, "input_size": (3, 16, 16)}, 1, 100)[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("trial", "folder"),
    [
        (Trial(DIGITS, "resnet18", "lp2-paper", 4), "digits/resnet18/lp2-paper-seed4"),
        (Trial(DIGITS, "resnet18", "base", 4, True, 1e-3), "digits/resnet18/lr-sweep/lr0.001-seed4"),
    ],
)
def test_folders(trial: Trial, folder: str) -> None:
    assert trial.folder.as_posix() == folder


def test_checkpoints_lie_in_the_trials_folder(tmp_path: Path) -> None:
    _run(TRIAL, tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_checkpoint_is_of_the_images_and_the_number_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_parquet(tmp_path / "bugs", {"train": 3, "test": 2})
    other = Trial(load_data(str(tmp_path / "bugs")), "resnet18", "base", 1)
    settings = [trial_record(config(), trial, Accelerator()).decisive() for trial in (TRIAL, other)]
    forget_format()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch --mixed_precision bf16` does
    settings.append(trial_record(config(), TRIAL, Accelerator()).decisive())
    differ = [{name for name in other if other[name] != settings[0][name]} for other in settings[1:]]
    assert differ == [{"data_sha256"}, {"mixed_precision"}]
