"""Results of trials that never ran."""

from typing import Any


def result(
    variant: str,
    seed: int,
    top1: float | None,
    dataset: str = "dtd",
    *,
    error: str | None = None,
    held_out: bool = False,
    lr: float = 0.1,
) -> dict[str, Any]:
    """Return what a trial would have left in its `trial.json`."""
    folder = f"{dataset}/lr-sweep/lr{lr:g}-seed{seed}" if held_out else f"{dataset}/{variant}-seed{seed}"
    return {
        "dataset": {
            "id": f"org/{dataset}",
            "name": dataset.upper(),
            "revision": "1" * 40,
            "split": "test",
            "config": None,
        },
        "dataset_argument": dataset,
        "data_sha256": f"digest of {dataset}",
        "folder": folder,
        "start": {"kind": "hub", "hub_id": "timm/resnet18.a1_in1k", "license": "apache-2.0"},
        "variant": variant,
        "seed": seed,
        "held_out": held_out,
        "error": error,
        "final": True,
        "metrics": None if top1 is None else {"top1": top1, "mean_per_class": top1 - 1},
        "num_test": None if top1 is None else 40 if held_out else 1880,
        "parameters": None if top1 is None else 1234567,
        "train_seconds": None if top1 is None else 2.0 * seed,
        "mixed_precision": "no",
        "settings": {
            **{"model": "resnet18", "model_kwargs": {}, "pretrained": True, "checkpoint": None},
            **{"shots": 16, "epochs": 5, "lr": lr},
        },
    }


RESULTS = [
    *(result("base", seed, top1) for seed, top1 in enumerate([80.0, 82.0, 81.0], 1)),
    *(result("lp2", seed, top1) for seed, top1 in enumerate([90.0, 91.0], 1)),
    result("lp2", 3, None, error="DTD: image 7 (banded.jpg) cannot be read: image file is truncated"),
    result("large", 1, None, error="the loss became nan in epoch 2 of 5"),
    *(result("base", seed, top1, "pets") for seed, top1 in enumerate([70.0, 71.0, 69.0], 1)),
    *(result("lp2", seed, top1, "pets") for seed, top1 in enumerate([69.0, 70.5, 68.0], 1)),
    result("base", 1, 55.0, held_out=True, lr=0.1),
    result("base", 2, 57.0, held_out=True, lr=0.1),
    result("base", 1, 52.0, held_out=True, lr=0.01),
    result("base", 1, 99.0, held_out=True, lr=1.0),
    result("base", 2, None, held_out=True, lr=1.0, error="the loss became inf"),
]
