from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

from timm_lp.experiments.data.loading import load_data
from timm_lp.files import TRIAL_FILE, write_json
from timm_lp.trials.record import TrialRecord, trial_folder

from ...trials.records import record
from ..images import make_folder
from ..networks import TINY

CLASSES = ("ant", "bee", "cat")
MakeTrial = Callable[..., Path]


@pytest.fixture(scope="session")
def bugs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three classes, of two training and three test images each."""
    root = tmp_path_factory.mktemp("data") / "bugs"
    make_folder(root, "train", CLASSES)
    make_folder(root, "test", CLASSES, count=3, first=10)
    return root


@pytest.fixture(scope="session")
def make_trial(bugs: Path) -> MakeTrial:
    """What a trial on the bugs would have left, with an untrained network."""
    data_sha256 = load_data(str(bugs)).contents.sha256

    def make(run: Path, variant: str, seed: int, class_names: tuple[str, ...] = CLASSES, **changes: Any) -> Path:
        trial: TrialRecord = record(variant, seed, 60.0 + seed)
        settings = {**trial.settings, **changes.pop("settings", {})}
        for name in ("dataset_config", "dataset_revision", "image_column", "label_column", "train_split", "test_split"):
            settings.setdefault(name, None)
        trial = replace(
            trial,
            **{
                "folder": trial_folder("bugs", "resnet18", variant, seed, 0.1 if changes.get("held_out") else None),
                "dataset": replace(trial.dataset, id="bugs", name="bugs", revision=None),
                "dataset_argument": str(bugs),
                "data_sha256": data_sha256,
                "settings": settings,
                **changes,
            },
        )
        folder = run / trial.folder
        folder.mkdir(parents=True)
        write_json(folder / TRIAL_FILE, asdict(trial))
        torch.manual_seed(seed)
        network = timm.create_model(trial.network, num_classes=len(class_names), **TINY)
        _tell_images_apart(network)
        config = {"label_names": list(class_names), "pretrained_cfg": {"input_size": (3, 32, 32), "crop_pct": 1.0}}
        save_for_hf(network, str(folder), model_config=config, model_args=TINY, safe_serialization=True)
        return folder

    return make


def _tell_images_apart(network: nn.Module) -> None:
    """Let an untrained network's outputs differ between images, and no class win everywhere."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics are the mean of what is seen
    with torch.no_grad():
        images = torch.randn(64, 3, 1, 1) + torch.randn(64, 3, 32, 32) / 4
        network.train()(images)
        network.eval().fc.bias -= network(images).mean(dim=0)


@pytest.fixture(scope="session")
def run(make_trial: MakeTrial, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run: base and lp2, two seeds each."""
    folder = tmp_path_factory.mktemp("run")
    for variant in ("base", "lp2"):
        for seed in (1, 2):
            make_trial(folder, variant, seed)
    return folder
