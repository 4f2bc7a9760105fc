from pathlib import Path

import pytest
import timm
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from timm_lp.fewshot.config import FewShotConfig
from timm_lp.fewshot.data import load_splits
from timm_lp.fewshot.training import (
    DivergedError,
    Trial,
    create_network,
    create_scheduler,
    evaluate,
    run_trial,
    variant_name,
)

TINY = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}


def _config(**settings: object) -> FewShotConfig:
    return FewShotConfig(**{"model": "resnet18", "model_kwargs": TINY, "pretrained": False, "img_size": 32, **settings})


def test_variant_names() -> None:
    assert variant_name("resnet18.a1_in1k", "base") == "resnet18.a1_in1k"
    assert variant_name("resnet18.a1_in1k", "lp2") == "lp2_resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("resnet18", "lp3", "got 'lp3_resnet18'. Variants of resnet18: base, large, lp2, lp4"),
        ("mobilenetv3_small_100", "lp2", "Variants of mobilenetv3_small_100: base."),
        ("resnet17", "base", "Variants of resnet17: none, it is unknown."),
    ],
    ids=["variant", "architecture", "model"],
)
def test_unknown_variants_are_refused(model: str, variant: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_name(model, variant)


@pytest.mark.parametrize("variant", ["base", "large", "lp2"])
def test_a_checkpoint_of_the_base_network_starts_every_variant(tmp_path: Path, variant: str) -> None:
    base = timm.create_model("resnet18", num_classes=7, **TINY)
    path = tmp_path / "base.safetensors"
    save_file(base.state_dict(), path)
    model = create_network(_config(checkpoint=str(path)), variant, num_classes=10)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        model.eval().forward_features(images), base.eval().forward_features(images), rtol=1e-4, atol=1e-4
    )
    assert model.num_classes == 10


def test_a_trial_is_repeatable_and_reports_what_it_did() -> None:
    config = _config(shots=2, epochs=2, batch_size=10)
    losses: list[list[float]] = [[], []]
    outcomes = [
        run_trial(config, Trial("lp2", 3), load_splits("digits"), Accelerator(), record.append) for record in losses
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    assert outcomes[0].top1 == outcomes[1].top1
    assert (outcomes[0].num_test, len(outcomes[0].indices)) == (797, 20)
    assert outcomes[0].data_config["input_size"] == (3, 32, 32)


def test_seeds_settle_images_and_weights() -> None:
    config = _config(shots=2, epochs=1, batch_size=20)
    pool, test = load_splits("digits")
    losses: list[float] = []
    one, two = (run_trial(config, Trial("base", seed), (pool, test), Accelerator(), losses.append) for seed in (1, 2))
    assert (one.indices, two.indices) == (pool.draw(2, seed=1), pool.draw(2, seed=2))
    assert not torch.equal(one.model.conv1.weight, two.model.conv1.weight)
    assert losses[0] != losses[1]


def test_learning_rate_rises_to_its_peak_and_falls() -> None:
    config = _config(lr=1.0, epochs=6, warmup_epochs=2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = create_scheduler(config, optimizer, updates_per_epoch=5)
    rates = [optimizer.param_groups[0]["lr"]]
    for update in range(1, 31):
        scheduler.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01)
    assert rates[5] == pytest.approx(0.505)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[20] == pytest.approx(0.5)
    assert rates[30] == pytest.approx(0.0, abs=1e-6)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)


def _loss(**settings: object) -> float:
    losses: list[float] = []
    config = _config(**{"shots": 3, "epochs": 3, "batch_size": 8, "lr": 1e-2, **settings})
    run_trial(config, Trial("lp2", 1), load_splits("digits"), Accelerator(), losses.append)
    return losses[-1]


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 1e-3},
        {"weight_decay": 50.0},
        {"layer_decay": 0.1},
        {"warmup_epochs": 0},
        {"smoothing": 0.5},
        {"drop_path_rate": 0.9},
        {"clip_grad": 1e-9},
        {"hflip": 1.0},
        {"crop_scale_min": 1.0},
        {"batch_size": 15},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_setting_changes_the_training(settings: dict[str, object], usual_loss: float) -> None:
    assert _loss(**settings) != usual_loss


@pytest.fixture(scope="module")
def usual_loss() -> float:
    return _loss()


def test_settings_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must fit lp2_densenet121, got .*drop_path_rate"):
        create_network(FewShotConfig(model="densenet121", pretrained=False, drop_path_rate=0.1), "lp2", 10)


@pytest.mark.parametrize("variant", ["base", "lp2"])
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, variant: str) -> None:
    whole = timm.create_model("resnet18", num_classes=7, **TINY).state_dict()
    path = tmp_path / "half.safetensors"
    save_file({key: value for key, value in whole.items() if not key.startswith("layer1")}, path)
    with pytest.raises(ValueError, match=r"must fit .*resnet18, got .*missing keys: layer1\.0\.conv1\.weight"):
        create_network(_config(checkpoint=str(path)), variant, num_classes=10)


def test_a_trial_that_diverges_says_when() -> None:
    config = _config(shots=2, epochs=4, batch_size=10, lr=1e30, warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch \d of 4"):
        run_trial(config, Trial("base", 1), load_splits("digits"), Accelerator(), lambda loss: None)


def test_batches_must_divide_among_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator()
    monkeypatch.setattr(type(accelerator), "num_processes", 3)
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of the 3 processes, got 32"):
        run_trial(_config(), Trial("base", 1), load_splits("digits"), accelerator, lambda loss: None)


def test_accuracy_counts_every_image_once() -> None:
    images, labels = torch.eye(5), torch.tensor([0, 1, 2, 0, 0])
    loader = DataLoader(TensorDataset(images, labels), batch_size=2)
    accelerator = Accelerator()
    assert evaluate(nn.Identity(), accelerator.prepare(loader), accelerator) == 60.0
