"""The benchmark: every variant with every seed, each trial in a folder of its own."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import accelerate
import timm
import torch
from accelerate import Accelerator
from timm.models import save_for_hf
from tqdm import tqdm

from .. import __version__
from ..output import write_json
from .config import FewShotConfig
from .data import load_splits
from .report import Result, summarize
from .training import DivergedError, Outcome, Trial, run_trial, variant_name

_logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"
SUMMARY_FILE = "results.json"


def run_benchmark(config: FewShotConfig, accelerator: Accelerator) -> list[Result]:
    """Run every trial that has no result yet, and return the results of all.

    Each trial's folder under `config.output_dir` gets `result.json`, and the model as timm's `local-dir:` loads it;
    `results.json` gets all results with their summary.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Raises:
        ValueError: If a model or the data set is unknown, or `config.output_dir` holds trials with other settings.
    """
    output_dir = Path(config.output_dir)
    trials = [Trial(variant, seed) for seed in config.seeds for variant in config.variants]
    for variant in config.variants:
        variant_name(config.model, variant)
    if config.checkpoint is not None and not Path(config.checkpoint).is_file():
        raise ValueError(f"`checkpoint` must be a file, got {config.checkpoint!r}.")
    splits = load_splits(config.dataset)
    results = {trial: _finished(output_dir, trial, config, accelerator) for trial in trials}

    with _progress(config, results, accelerator) as bar:
        for trial in [trial for trial in trials if results[trial] is None]:
            bar.set_description(trial.name)

            def on_epoch(loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()

            try:
                outcome = run_trial(config, trial, splits, accelerator, on_epoch)
            except DivergedError as error:
                _logger.warning("%s failed: %s.", trial.name, error)
                results[trial] = _result(config, trial, accelerator, error=str(error))
            else:
                results[trial] = _result(config, trial, accelerator, outcome)
                if accelerator.is_main_process and config.save_models:
                    _save_model(output_dir / trial.name, outcome, config.model_kwargs, splits[0].class_names)
            if accelerator.is_main_process:
                write_json(output_dir / trial.name / RESULT_FILE, results[trial])
            accelerator.free_memory()
            accelerator.wait_for_everyone()

    done = [result for result in results.values() if result is not None]
    if accelerator.is_main_process:
        write_json(output_dir / SUMMARY_FILE, _overview(config, done))
    return done


@contextmanager
def _progress(config: FewShotConfig, results: dict[Trial, Any], accelerator: Accelerator) -> Iterator[tqdm]:
    """Show the epochs of all trials on one bar, in the main process alone."""
    finished = sum(result is not None for result in results.values())
    with tqdm(
        total=len(results) * config.epochs,
        initial=finished * config.epochs,
        unit="epoch",
        disable=not accelerator.is_main_process,
        dynamic_ncols=True,
    ) as bar:
        yield bar


def _machine(accelerator: Accelerator) -> dict[str, Any]:
    """Return what a trial's result depends on beside its settings."""
    return {
        "num_processes": accelerator.num_processes,
        "device": accelerator.device.type,
        "mixed_precision": accelerator.mixed_precision,
    }


def _finished(output_dir: Path, trial: Trial, config: FewShotConfig, accelerator: Accelerator) -> Result | None:
    """Return the result of a trial that was run before, with the same settings and in the same way."""
    path = output_dir / trial.name / RESULT_FILE
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(json.dumps({**config.trial_settings(), **_machine(accelerator)}))
    before = {**result["settings"], **{name: result[name] for name in _machine(accelerator)}}
    differ = [f"{name} {before.get(name)} instead of {now[name]}" for name in now if before.get(name) != now[name]]
    if differ:
        raise ValueError(
            f"`output_dir` must not hold trials with other settings, got {path} with {', '.join(differ)}. "
            "Choose another --output-dir."
        )
    return result


def _result(
    config: FewShotConfig,
    trial: Trial,
    accelerator: Accelerator,
    outcome: Outcome | None = None,
    error: str | None = None,
) -> Result:
    """Return all that is needed to repeat a trial, and what it gave."""
    return {
        "model": variant_name(config.model, trial.variant),
        "variant": trial.variant,
        "seed": trial.seed,
        "top1": outcome.top1 if outcome else None,
        "error": error,
        "num_test": outcome.num_test if outcome else None,
        "indices": outcome.indices if outcome else None,
        "parameters": sum(p.numel() for p in outcome.model.parameters()) if outcome else None,
        "train_seconds": outcome.train_seconds if outcome else None,
        "test_seconds": outcome.test_seconds if outcome else None,
        "settings": config.trial_settings(),
        **_machine(accelerator),
        "versions": {
            "timm-lp": __version__,
            "timm": timm.__version__,
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
    }


def _overview(config: FewShotConfig, results: list[Result]) -> dict[str, Any]:
    """Return the settings once, the summary, and what differs from trial to trial."""
    columns = ("variant", "seed", "top1", "error", "train_seconds", "test_seconds")
    trials = [{column: result[column] for column in columns} for result in results]
    return {"settings": config.trial_settings(), "summary": summarize(results), "trials": trials}


def _save_model(folder: Path, outcome: Outcome, model_kwargs: dict[str, Any], class_names: list[str]) -> None:
    """Save a trained model as `timm.create_model("local-dir:<folder>", pretrained=True)` loads it."""
    data_config = {key: outcome.data_config[key] for key in ("input_size", "interpolation", "mean", "std", "crop_pct")}
    model_config = {"label_names": class_names, "pretrained_cfg": data_config}
    save_for_hf(
        outcome.model, str(folder), model_config=model_config, model_args=dict(model_kwargs), safe_serialization=True
    )
