from copy import deepcopy

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from timm_lp.experiments.classification.networks import create_network
from timm_lp.experiments.classification.optimizer import create_optimizer, create_scheduler, parameter_groups

from ..networks import config


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_masks_have_groups_of_their_own(layer_decay: float | None) -> None:
    settings = config(layer_decay=layer_decay, mask_lr_scale=10.0)
    network = create_network(settings, "resnet18", "lp2", 10)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(settings, network)
    assert sorted(names[id(p)] for group in groups for p in group["params"]) == sorted(names.values())
    for group in groups:
        of_masks = {names[id(p)].endswith((".C", ".log2p")) for p in group["params"]}
        assert len(of_masks) == 1
        if of_masks == {True}:
            assert group["weight_decay"] == 0
            assert group["lr_scale"] >= (1.0 if layer_decay is None else 10 * 0.5**12)
    first = next(g for g in groups if any(names[id(p)] == "conv1.weight" for p in g["params"]))
    masks = next(g for g in groups if any(names[id(p)] == "conv1.C" for p in g["params"]))
    assert masks["lr_scale"] == pytest.approx(10 * first.get("lr_scale", 1.0))


def test_masks_do_not_decay_in_a_network_that_does_not_spare_them() -> None:
    network = nn.Sequential(create_network(config(), "resnet18", "lp2", 10))
    masks = {id(p) for name, p in network.named_parameters() if name.endswith((".C", ".log2p"))}
    decay = {group["weight_decay"] for group in parameter_groups(config(), network) if id(group["params"][0]) in masks}
    assert decay == {0.0}


def test_the_base_network_has_timms_groups() -> None:
    settings = config()
    decayed, others = sorted(parameter_groups(settings, create_network(settings, "resnet18", "base", 10)), key=len)[:2]
    assert {decayed["weight_decay"], others["weight_decay"]} == {0.0, 0.05}


def test_frozen_masks_are_not_optimized() -> None:
    settings = config()
    network = create_network(settings, "resnet18", "lp256f", 10)
    optimizer = create_optimizer(settings, network)
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(network.conv1.weight) in optimized
    assert id(network.conv1.C) not in optimized


def test_the_schedule_scales_the_masks_rate() -> None:
    settings = config(lr=1.0, epochs=6, warmup_epochs=2, mask_lr_scale=3.0)
    optimizer = create_optimizer(settings, create_network(settings, "resnet18", "lp2", 10))
    create_scheduler(settings, optimizer, updates_per_epoch=5).step_update(10)
    assert {group["lr"] for group in optimizer.param_groups} == {1.0, 3.0}


def test_learning_rate_rises_to_its_peak_and_falls() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = create_scheduler(config(lr=1.0, epochs=6, warmup_epochs=2), optimizer, updates_per_epoch=5)
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


def test_the_schedule_is_timms() -> None:
    ours, timms = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2))
    settings = config(lr=1.0, epochs=6, warmup_epochs=2, warmup_lr=0.1, min_lr=0.05)
    one = create_scheduler(settings, ours, updates_per_epoch=5)
    other = CosineLRScheduler(
        timms, t_initial=20, lr_min=0.05, warmup_t=10, warmup_lr_init=0.1, warmup_prefix=True, t_in_epochs=False
    )
    for update in range(31):
        for scheduler in (one, other):
            scheduler.step_update(update)
        assert ours.param_groups[0]["lr"] == pytest.approx(timms.param_groups[0]["lr"]), update


def test_the_ends_of_the_schedule() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = config(lr=1.0, epochs=6, warmup_epochs=2, warmup_lr=0.5, min_lr=0.25)
    scheduler = create_scheduler(settings, optimizer, updates_per_epoch=5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    scheduler.step_update(30)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_optimizers_are_timms() -> None:
    network = create_network(config(), "resnet18", "lp2", 10)
    optimizer = create_optimizer(config(opt="nadamw", opt_eps=1e-5, opt_betas=[0.8, 0.95]), network)
    assert type(optimizer).__name__ == "NAdamW"
    assert {(group["eps"], *group["betas"]) for group in optimizer.param_groups} == {(1e-5, 0.8, 0.95)}
    momentum = create_optimizer(config(opt="sgd", momentum=0.7), network)
    assert {group["momentum"] for group in momentum.param_groups} == {0.7}


@pytest.mark.parametrize(
    ("opt", "is_fused"), [("adamw", True), ("Adam", True), ("sgd", True), ("lookahead_adamw", True), ("nadamw", False)]
)
def test_optimizers_that_can_be_are_fused(opt: str, is_fused: bool) -> None:
    optimizer = create_optimizer(config(opt=opt), create_network(config(), "resnet18", "lp2", 10))
    assert {group.get("fused") for group in optimizer.param_groups} <= ({True} if is_fused else {None, False})


def test_the_fused_optimizer_takes_the_same_steps() -> None:
    network = create_network(config(), "resnet18", "lp2", 10).double()
    networks = [network, deepcopy(network)]
    fused = create_optimizer(config(lr=0.01), networks[0])
    plain = torch.optim.AdamW(parameter_groups(config(), networks[1]), lr=0.01, fused=False, foreach=False)
    for step in range(3):
        for network in networks:
            for place, parameter in enumerate(network.parameters()):
                generator = torch.Generator().manual_seed(100 * step + place)
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        fused.step()
        plain.step()
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"opt": "adamx"}, "got 'adamx': .*adamx.* timm.optim.list_optimizers"),
        ({"opt": "sgd", "opt_betas": [0.9, 0.99]}, r"got 'sgd': it does not take betas = \(0\.9, 0\.99\)"),
        ({"opt_betas": [0.9]}, "got 'adamw': it takes more betas"),
    ],
)
def test_optimizers_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    network = create_network(config(), "resnet18", "base", 10)
    with pytest.raises(
        ValueError, match=rf"`opt`, `opt_eps` and `opt_betas` must fit one of timm's optimizers, {message}"
    ):
        create_optimizer(config(**settings), network)
