"""Masks are spared from weight decay wherever the network stands."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.distributed
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection import FasterRCNN
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainingArguments

from timm_lp import LpConv2d, lp_convert, spare_masks_from_weight_decay

from .covering import covering
from .distributed import one_process

DECAY = 0.05


def encoder(**kwargs: Any) -> nn.Module:
    return timm.create_model("lp2_resnet18", layers=(1, 1, 1, 1), channels=(8, 8, 8, 8), **kwargs)


def unet() -> nn.Module:
    return smp.Unet("tu-lp2_resnet18", encoder_weights=None, decoder_channels=(8, 8, 8, 8, 8))


def sequential() -> nn.Module:
    return nn.Sequential(encoder(num_classes=3), nn.Linear(3, 2))


class Backbone(nn.Module):
    """Features for torchvision's detectors."""

    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.body = encoder(features_only=True, out_indices=(4,))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[0]


def detector() -> nn.Module:
    return FasterRCNN(Backbone(), num_classes=2)


def compiled() -> nn.Module:
    return torch.compile(sequential(), backend="eager")


def layer() -> nn.Module:
    return LpConv2d(2, 3, 5)


def checkpointed() -> nn.Module:
    """Return a network whose wrapper gives parameters other names than modules."""
    return checkpoint_wrapper(sequential())


def wrapped_by_transformers() -> nn.Module:
    arguments = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}
    return TimmWrapperForImageClassification(
        TimmWrapperConfig(architecture="lp2_resnet18", model_args=arguments, num_labels=3)
    )


LARGER = [unet, sequential, detector, wrapped_by_transformers, checkpointed, compiled]


def by_timm(model: nn.Module) -> torch.optim.Optimizer:
    return create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=DECAY)


def by_timm_with_layer_decay(model: nn.Module) -> torch.optim.Optimizer:
    return create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=DECAY, layer_decay=0.9)


def by_torch(model: nn.Module) -> torch.optim.Optimizer:
    groups = param_groups_weight_decay(model, DECAY, no_weight_decay_list=model.no_weight_decay())
    return torch.optim.AdamW(groups, lr=1e-3)


def decays(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[set[float], set[float]]:
    """Return the weight decays of the masks, and those of all kernels and matrices."""
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert of.keys() == {id(p) for p in model.parameters()}
    masks = {id(p) for m in model.modules() if isinstance(m, LpConv2d) for p in (m.C, m.log2p)}
    assert masks
    weights = {id(p) for p in model.parameters() if p.ndim > 1} - masks
    return {of[key] for key in masks}, {of[key] for key in weights}


@covering(
    1,
    build={build.__name__: build for build in (*LARGER, layer)},
    create={create.__name__: create for create in (by_timm, by_timm_with_layer_decay, by_torch)},
)
def test_part_of_a_larger_model(
    build: Callable[[], nn.Module], create: Callable[[nn.Module], torch.optim.Optimizer]
) -> None:
    model = build()
    for _ in range(2):
        spare_masks_from_weight_decay(model)
        assert decays(model, create(model)) == ({0.0}, {DECAY})


@pytest.mark.parametrize("build", LARGER[:4])
def test_without_it_they_decay(build: Callable[[], nn.Module]) -> None:
    model = build()
    assert decays(model, by_timm(model)) == ({0.0, DECAY}, {DECAY})


@pytest.mark.parametrize("distribute", [DistributedDataParallel, fully_shard])
def test_distributed(distribute: Callable[[nn.Module], nn.Module]) -> None:
    with one_process():
        model = distribute(sequential())
        spare_masks_from_weight_decay(model)
        assert decays(model, by_timm(model)) == ({0.0}, {DECAY})


@pytest.mark.parametrize(("ours", "masks"), [(False, {DECAY}), (True, {0.0})], ids=["alone", "ours"])
def test_transformers_trainer(ours: bool, masks: set[float], tmp_path: Path) -> None:
    wrapped_by_transformers().save_pretrained(tmp_path)
    model = TimmWrapperForImageClassification.from_pretrained(tmp_path)
    optimizer = None
    if ours:
        spare_masks_from_weight_decay(model)
        optimizer = by_timm(model)
    rows = [{"pixel_values": torch.zeros(3, 32, 32), "labels": 0}] * 2
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, weight_decay=DECAY, use_cpu=True, report_to=[], save_strategy="no", logging_steps=2
    )
    trainer = Trainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None))
    trainer.train()
    assert decays(model, trainer.optimizer) == (masks, {DECAY})


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies_spare_them_too(copied: Callable[[nn.Module], nn.Module]) -> None:
    model = sequential()
    spare_masks_from_weight_decay(model)
    twin = copied(model)
    assert decays(twin, by_timm(twin)) == ({0.0}, {DECAY})


class Mixer(nn.Module):
    """Has matrices with the names of a mask's parameters, and spares one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.C, self.own = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
        self.features = lp_convert(nn.Sequential(nn.Conv2d(2, 2, 3)))
        self.state = nn.Module()
        self.state.C = nn.Parameter(torch.ones(2, 2))

    def no_weight_decay(self) -> set[str]:
        return {"own"}


def test_what_only_has_such_a_name_decays() -> None:
    model = Mixer()
    spare_masks_from_weight_decay(model)
    assert model.no_weight_decay() == {"own", "features.0.C", "features.0.log2p", "*.log2p"}
    of = {id(p): group["weight_decay"] for group in by_timm(model).param_groups for p in group["params"]}
    assert of[id(model.C)] == of[id(model.state.C)] == DECAY
    assert of[id(model.own)] == of[id(model.features[0].C)] == 0


def test_only_modules_are_taken() -> None:
    with pytest.raises(TypeError, match=r"`model` must be an nn\.Module, got 'resnet18'\. Build it first"):
        spare_masks_from_weight_decay("resnet18")


def test_nothing_to_spare() -> None:
    with pytest.raises(ValueError, match=r"`model` must have LpConv2d layers, got Linear without\. Convert it first"):
        spare_masks_from_weight_decay(nn.Linear(2, 2))
