"""What a trial leaves: its record, its model, and the results for its model's card."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from timm.models import save_for_hf

from ...files import failures_name, write_json
from ...models.complexity import count_macs, count_parameters
from ...models.loading import WEIGHTS_FILE
from ...models.user_networks import built_by, registered_name
from ...models.variants import parse_variant
from ...start import Start, pretrained_start
from ...trials.record import TrialRecord, versions_of
from ...trials.summary import RESULTS_FILE, summarize, summarize_trial
from ..accelerator import machine_of
from ..data.images import DataSet
from .config import FinetuneConfig
from .flags import command_line
from .trial import Outcome, Trial

# They draw, decode, augment and compute.
_PACKAGES = ("timm", "torch", "torchvision", "accelerate", "datasets", "numpy", "pillow")


def trial_record(config: FinetuneConfig, trial: Trial, accelerator: Accelerator) -> TrialRecord:
    """Return everything needed to repeat a trial: its record without results.

    Args:
        config: Settings.
        trial: The trial.
        accelerator: Distributes the work.
    """
    alone = {
        "model": [trial.model],
        "model_kwargs": config.kwargs_of(trial.model),
        "variants": [trial.variant],
        "dataset": [trial.data.argument],
        "seeds": [trial.seed],
    }
    return TrialRecord(
        folder=trial.folder.as_posix(),
        dataset=trial.data.info,
        dataset_argument=trial.data.argument,
        data_sha256=trial.data.contents.sha256,
        model=trial.model,
        variant=trial.variant,
        network=parse_variant(registered_name(trial.model), trial.variant).model,
        seed=trial.seed,
        shots=config.shots or None,
        held_out=trial.held_out,
        settings={**config.trial_settings(trial.model), "mixed_precision": accelerator.mixed_precision},
        command=command_line(config, **alone, lr_sweep=[]),
        machine=machine_of(accelerator),
        versions=versions_of(*_PACKAGES),
    )


def figures(config: FinetuneConfig, data: DataSet, outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a trial's record that its outcome fills.

    Args:
        config: Settings.
        data: The data set.
        outcome: What the trial gave.
    """
    progress, drawn = outcome.progress, outcome.drawn
    num_train = len(drawn.train)
    num_used = num_train - num_train % min(config.batch_size, num_train)  # an incomplete batch is left out
    return {
        "start": _start(config, outcome),
        "metrics": outcome.metrics,
        "num_train": num_train,
        "num_test": len(outcome.tested),
        "parameters": count_parameters(outcome.model),
        "macs": count_macs(outcome.model, outcome.data_config["input_size"]),
        "train_seconds": progress.train_seconds,
        "history": {"loss": progress.losses, "lr": progress.rates, "top1": progress.top1},
        "details": {
            "data_wait_seconds": progress.data_wait_seconds,
            "test_seconds": outcome.test_seconds,
            "train_images_per_second": progress.epochs * num_used / progress.train_seconds,
            "peak_memory_mib": outcome.peak_memory_mib,
            "short_classes": drawn.short,
            "indices": list(drawn.train.indices),
            **({"track_share": config.track_share} if config.track_accuracy and config.track_share < 1 else {}),
            **({"test_indices": list(outcome.tested.indices)} if data.note else {}),
        },
    }


def _start(config: FinetuneConfig, outcome: Outcome) -> Start | None:
    """Return the weights from which a network started; None if nothing tells which they were."""
    if not config.pretrained and config.checkpoint is None:
        return Start("random")
    start = pretrained_start(getattr(outcome.model, "pretrained_cfg", {}))
    if start is not None and start.kind == "checkpoint":
        start = replace(start, sha256=config.checkpoint_sha256)
    return start


def write_results(output_dir: Path, records: Sequence[TrialRecord], config: FinetuneConfig) -> None:
    """Write `results.json`: all results into the output folder, and into a trial's folder what its card shows.

    A card shows the trial's variant on its data set, and the base network to compare with.

    Args:
        output_dir: Where the trials are.
        records: The trials.
        config: The settings of the run.
    """
    write_json(output_dir / RESULTS_FILE, summarize(records, command_line(config)))
    for record in records:
        if record.metrics and not record.held_out:
            command = command_line(
                config,
                model=[record.model],
                model_kwargs=record.settings["model_kwargs"],
                dataset=[record.dataset_argument],
                variants=[record.variant],
                lr=record.settings["lr"],
                lr_sweep=[],
            )
            content = summarize_trial(record, records, command)
            write_json(output_dir / record.folder / RESULTS_FILE, content)


def save_model(folder: Path, outcome: Outcome, model_kwargs: dict[str, Any], class_names: list[str]) -> None:
    """Save a trained model so that `timm.create_model("local-dir:<folder>", pretrained=True)` loads it."""
    keys = ("input_size", "interpolation", "mean", "std", "crop_pct")
    model_config: dict[str, Any] = {
        **built_by(outcome.model),
        "label_names": class_names,
        "pretrained_cfg": {key: outcome.data_config[key] for key in keys},
    }
    model = outcome.model.to(memory_format=torch.contiguous_format)  # safetensors takes no other
    model_args = dict(model_kwargs)
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    with failures_name(folder / WEIGHTS_FILE, SafetensorError, num_bytes=num_bytes):
        save_for_hf(model, str(folder), model_config=model_config, model_args=model_args, safe_serialization=True)
    rights = (folder / "config.json").stat().st_mode
    (folder / WEIGHTS_FILE).chmod(rights)  # safetensors lets nobody else read, whatever the umask
