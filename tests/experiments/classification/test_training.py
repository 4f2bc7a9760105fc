from contextlib import nullcontext
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch._dynamo.utils import counters

from timm_lp.experiments.classification.networks import create_network, preprocessing
from timm_lp.experiments.classification.training import Progress, Training
from timm_lp.experiments.classification.trial import augmentations
from timm_lp.experiments.data.loading import load_data
from timm_lp.experiments.data.pixels import TrainPixels
from timm_lp.experiments.data.sampling import draw
from timm_lp.trials.checkpoint import CheckpointFile
from timm_lp.trials.record import DivergedError

from ..networks import config

DIGITS = load_data("digits")


def _training(variant: str = "lp2", accelerator: Accelerator | None = None, **settings: object) -> Training:
    chosen = config(**{"shots": 3, "epochs": 2, "batch_size": 8, "lr": 1e-2, **settings})
    torch.manual_seed(0)
    network = create_network(chosen, chosen.model[0], variant, 10)
    data_config = preprocessing(chosen, network)
    drawn = draw(DIGITS, "nested", chosen.shots, 1)
    pixels = TrainPixels(drawn.train, augmentations(chosen, data_config), 1, 100)
    accelerator = accelerator or Accelerator(mixed_precision=chosen.mixed_precision)
    return Training(chosen, network, pixels, data_config, 1, accelerator)


def _losses(**settings: object) -> list[float]:
    training = _training(**settings)
    training.run(None, lambda progress: None)
    return training.progress.losses


@pytest.fixture(scope="module")
def usual() -> list[float]:
    return _losses()


def test_a_training_is_repeatable(usual: list[float]) -> None:
    assert _losses() == usual


def test_updates_with_one_batch_fit_it() -> None:
    training = _training(warmup_epochs=0)
    pixels, labels = next(iter(training.loader))
    losses = [training.update(pixels, labels, 1).item() for _ in range(30)]
    assert losses[-1] < losses[0] / 2  # 0.9 instead of 2.4; rounding moves it by 0.01


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 1e-3},
        {"mask_lr_scale": 0.0},
        {"weight_decay": 50.0},
        {"layer_decay": 0.1},
        {"warmup_epochs": 0},
        {"smoothing": 0.5},
        {"drop_path_rate": 0.9},
        {"clip_grad": 1e-9},
        {"hflip": 1.0},
        {"crop_scale_min": 1.0},
        {"auto_augment": "rand-m9"},
        {"batch_size": 15},
        {"opt": "nadamw"},
        {"opt_eps": 1e-2},
        {"opt_betas": [0.5, 0.9]},
        {"warmup_lr": 1e-2},
        {"min_lr": 1e-2},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"reprob": 0.5},
        {"train_crop_mode": "pad"},
        {"ratio": [1.0, 1.0]},
        {"zero_init_last": False},
        {"drop_rate": 0.5},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_setting_changes_the_training(settings: dict[str, object], usual: list[float]) -> None:
    assert _losses(**settings)[-1] != usual[-1]


def test_the_memory_format_changes_nothing(usual: list[float]) -> None:
    assert _losses(channels_last=True) == pytest.approx(usual, rel=1e-3)


def test_workers_change_nothing() -> None:
    without, one = (_losses(drop_path_rate=0.5, workers=workers) for workers in (0, 1))
    assert one == without


@pytest.mark.parametrize("mixed", [{}, {"mixup": 0.8, "cutmix": 1.0, "reprob": 0.5}], ids=["plain", "mixed"])
def test_accumulation_changes_nothing_but_batch_norms_statistics(mixed: dict[str, object]) -> None:
    """With LayerNorm a batch in two parts is the same batch; it is erased and mixed before it is parted."""
    tiny = {"model": "convnextv2_tiny", "model_kwargs": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}}
    whole, parts = (_losses(**tiny, **mixed, grad_accum_steps=steps, lr=1e-3) for steps in (1, 2))
    assert parts == pytest.approx(whole, rel=1e-4)


def test_half_precision_trains_nearly_alike(usual: list[float]) -> None:
    losses = _losses(mixed_precision="bf16")
    assert losses[0] == pytest.approx(usual[0], rel=0.05)  # of the first updates; later ones move apart
    assert losses != usual


def test_the_scale_of_fp16_gradients_starts_anew() -> None:
    accelerator = Accelerator()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)  # where the trial before left it
    _training(accelerator=accelerator)
    assert accelerator.scaler.get_scale() == 65536


def test_the_moving_average_is_what_is_tested() -> None:
    training = _training(model_ema_decay=0.5)
    averaged = training.run(None, lambda progress: None)
    assert averaged is not training.network
    assert not torch.equal(averaged.conv1.weight, training.network.conv1.weight)
    assert torch.isfinite(averaged.conv1.weight).all()
    assert training.progress.losses == _losses()


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model_ema_decay": 0.9, "drop_path_rate": 0.2},
        {"drop_path_rate": 0.5, "workers": 1},
        {"mixup": 0.8, "cutmix": 1.0, "reprob": 0.5, "opt": "nadamw"},
    ],
    ids=["plain", "ema", "workers", "mixed"],
)
def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path: Path, settings: dict[str, object]) -> None:
    """Killed within the first epoch, after the second and within the third, of three updates each."""
    usual = _training(**settings, epochs=3)
    expected = usual.run(None, lambda progress: None)
    checkpoint, seen = CheckpointFile(tmp_path / "checkpoint.pt", {}, 0), list[tuple[int, int]]()
    for place in ((0, 2), (2, 0), (2, 1), None):

        def follow(progress: Progress, place: tuple[int, int] | None = place) -> None:
            seen.append((progress.epochs, progress.updates))
            if seen[-1] == place:
                raise _Killed

        resumed = _training(**settings, epochs=3)
        with pytest.raises(_Killed) if place else nullcontext():
            model = resumed.run(checkpoint, follow)
    assert seen == [
        *((0, 1), (0, 2)),
        *((0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)),
        *((1, 2), (1, 3), (2, 0), (2, 1)),
        *((2, 1), (2, 2), (2, 3), (3, 0)),
    ]
    assert resumed.progress.losses == usual.progress.losses
    assert resumed.progress.rates == usual.progress.rates
    for (name, value), (_, want) in zip(model.state_dict().items(), expected.state_dict().items(), strict=True):
        assert torch.equal(value, want), name


def test_another_number_of_processes_goes_on_with_the_same_batches(
    tmp_path: Path, usual: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = CheckpointFile(tmp_path / "checkpoint.pt", {}, 0)

    def kill(progress: Progress) -> None:
        if progress.updates == 2:
            raise _Killed

    with pytest.raises(_Killed):
        _training().run(checkpoint, kill)
    state = checkpoint.load()
    assert state is not None
    checkpoint.save({**state, "processes": 2, "generators": []})  # as that of a process that did not run before
    resumed = _training()
    with caplog.at_level("INFO"):
        resumed.run(checkpoint, lambda progress: None)
    assert "after epoch 0 and 2 of 3 updates of the next, with the same batches" in caplog.text
    assert "processes: 1, before: 2" in caplog.text
    assert resumed.progress.losses == usual


def test_a_training_that_diverges_says_when() -> None:
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch \d of 2"):
        _losses(variant="base", lr=1e30, warmup_epochs=0)


def test_batches_must_divide_among_processes() -> None:
    with pytest.raises(ValueError, match=r"must be a multiple of 1 processes x 3 .*Use --batch-size 6"):
        _training(grad_accum_steps=3)
    with pytest.raises(ValueError, match=r"1 processes x 40 accumulation .*got 30 of 30 training images\. Use fewer"):
        _training(grad_accum_steps=40, batch_size=40)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_images_must_come_in_pairs_to_be_mixed(name: str) -> None:
    message = "`mixup` and `cutmix` must have an even number of images to mix, got 7 of a batch .*Use --batch-size 6"
    with pytest.raises(ValueError, match=message):
        _training(batch_size=7, **{name: 1.0})
    _training(batch_size=7, mixup_prob=0.0, **{name: 1.0})


def test_accuracy_is_followed_without_changing_the_training(usual: list[float]) -> None:
    training = _training()
    accuracies = iter([10.0, 20.0])

    def test(network: nn.Module) -> float:
        network.eval()
        return next(accuracies)

    training.run(None, lambda progress: None, test)
    assert training.progress.top1 == [10.0, 20.0]
    assert training.progress.losses == usual


def test_the_rate_of_each_epoch_is_kept() -> None:
    training = _training(lr=1.0, warmup_epochs=0, min_lr=0.5, mask_lr_scale=3.0)
    training.run(None, lambda progress: None)
    assert training.progress.rates[-1] == pytest.approx(0.5)
    assert training.progress.rates == sorted(training.progress.rates, reverse=True)


def test_a_batch_is_no_larger_than_the_images() -> None:
    training = _training(batch_size=64)
    assert len(training.loader) == 1
    assert next(iter(training.loader))[0].shape == (30, 3, 32, 32)


def test_every_training_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch compiles so many networks, and no more."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))  # a tenth of the time
    with torch._dynamo.config.patch(recompile_limit=1):
        for variant in ("base", "large"):
            counters.clear()
            training = _training(variant, compile=True)
            pixels, labels = next(iter(training.loader))
            training.update(pixels, labels, 1)
            assert counters["stats"]["unique_graphs"] == 1, variant
    assert not any(name.startswith("_orig_mod") for name in training.network.state_dict())
    torch.compiler.reset()
