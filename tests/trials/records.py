"""Records of trials that never ran, and the networks that such trials would have saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from timm.models import save_for_hf

from timm_lp.files import TRIAL_FILE, write_json
from timm_lp.models.sudoku import create_network, save_network
from timm_lp.start import Start
from timm_lp.trials.record import DataInfo, Machine, TrialRecord, as_json

TINY: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4]}


def record(
    variant: str,
    seed: int,
    top1: float | None,
    dataset: str = "dtd",
    model: str = "resnet18",
    *,
    error: str | None = None,
    held_out: bool = False,
    lr: float = 0.1,
) -> TrialRecord:
    """Return what a trial would have left in its `trial.json`."""
    name = f"lr-sweep/lr{lr:g}-seed{seed}" if held_out else f"{variant}-seed{seed}"
    figures: dict[str, Any] = {}
    if top1 is not None:
        figures = {
            "metrics": {"top1": top1, "mean_per_class": top1 - 1},
            "num_train": 752,
            "num_test": 40 if held_out else 1880,
            "parameters": 1234567,
            "macs": 7654321,
            "train_seconds": 2.0 * seed,
            "history": {"loss": [2.0, 1.0]},
            "details": {"indices": [3, 1, 2]},
        }
    return TrialRecord(
        folder=f"{dataset}/{model}/{name}",
        dataset=DataInfo(f"org/{dataset}", dataset.upper(), "1" * 40),
        dataset_argument=dataset,
        data_sha256=f"digest of {dataset}",
        model=model,
        variant=variant,
        network=model if variant == "base" else f"{variant}_{model}",
        seed=seed,
        shots=16,
        held_out=held_out,
        settings={
            **{"model_kwargs": {}, "pretrained": True, "checkpoint": None, "checkpoint_sha256": None},
            **{"epochs": 5, "lr": lr, "mixed_precision": "no"},
        },
        command="accelerate launch finetune.py",
        machine=Machine("cpu", 1, 2),
        versions={"timm-lp": "1.0"},
        start=Start("hub", hub_id="timm/resnet18.a1_in1k", license="apache-2.0"),
        error=error,
        **figures,
    )


def changed(trial: TrialRecord, **settings: object) -> TrialRecord:
    """Return a record with other settings."""
    return replace(trial, settings={**trial.settings, **settings})


def write_trial(run: Path, trial: TrialRecord) -> Path:
    """Write a record where its trial's network would lie, and return the folder."""
    folder = run / trial.folder
    write_json(folder / TRIAL_FILE, as_json(trial))
    return folder


def save_trial(
    run: Path,
    variant: str = "lp2",
    seed: int = 1,
    *,
    num_classes: int = 3,
    layers: list[int] = TINY["layers"],
    model_config: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write what a trial that saved its network leaves, and return its folder.

    Args:
        run: The run's folder.
        variant: The variant.
        seed: The seed.
        num_classes: Number of its classes.
        layers: Blocks of each of its stages.
        model_config: Further entries of the saved configuration.
        **changes: Of the record.
    """
    trial = replace(record(variant, seed, 50.0, "digits"), **changes)
    arguments = {**TINY, "layers": layers}
    network = timm.create_model(trial.network, num_classes=num_classes, **arguments)
    folder = write_trial(run, trial)
    save_for_hf(network, str(folder), model_config=model_config, model_args=arguments, safe_serialization=True)
    return folder


def save_sudoku(run: Path) -> Path:
    """Write what a Sudoku trial leaves, and return its folder."""
    model, arguments = "sudoku4x1-scalar", {"variant": "lp2", "channels": 4, "depth": 1, "inputs": "scalar"}
    folder = write_trial(run, replace(record("lp2", 1, 50.0), model=model, folder=f"boards/{model}/lp2-seed1"))
    save_network(folder, create_network(**arguments), arguments)  # type: ignore[arg-type] # each of its own type
    return folder


RECORDS = [
    *(record("base", seed, top1) for seed, top1 in enumerate([80.0, 82.0, 81.0], 1)),
    *(record("lp2", seed, top1) for seed, top1 in enumerate([90.0, 91.0], 1)),
    record("lp2", 3, None, error="DTD: image 7 (banded.jpg) cannot be read: image file is truncated"),
    record("large", 1, None, error="the loss became nan in epoch 2 of 5"),
    *(record("base", seed, top1, "pets") for seed, top1 in enumerate([70.0, 71.0, 69.0], 1)),
    *(record("lp2", seed, top1, "pets") for seed, top1 in enumerate([69.0, 70.5, 68.0], 1)),
    record("base", 1, 55.0, held_out=True, lr=0.1),
    record("base", 2, 57.0, held_out=True, lr=0.1),
    record("base", 1, 52.0, held_out=True, lr=0.01),
    record("base", 1, 99.0, held_out=True, lr=1.0),
    record("base", 2, None, held_out=True, lr=1.0, error="the loss became inf"),
]
