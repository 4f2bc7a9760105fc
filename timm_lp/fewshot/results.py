"""What a trial leaves on disk: its result, its model, and the file that a model card is made of."""

import json
import logging
import platform
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from accelerate import Accelerator
from timm.models import save_for_hf

from .. import __version__
from ..files import write_json
from ..models.variants import BASE, parse_variant
from ..start import Start, pretrained_start
from .config import FewShotConfig
from .data import DataInfo, DataSet
from .flags import command_line
from .trial import Outcome, Trial, decisive_settings

Result = dict[str, Any]

TRIAL_FILE = "trial.json"
RESULTS_FILE = "results.json"

_PER_DATA_SET = {
    *("checkpoint", "lr", "dataset_config", "dataset_revision"),
    *("image_column", "label_column", "train_split", "test_split"),
}
_IN_WORDS = {
    "data_sha256": "the images or classes of the data set differ",
    "checkpoint_sha256": "the contents of the checkpoint differ",
}

# What the tables read of a record, and what a failed trial has in place of its metrics.
_RECORD: dict[str, Any] = {
    "dataset": {"id": str, "name": str},
    "settings": {"model": str, "model_kwargs": dict, "pretrained": bool, "shots": int, "epochs": int, "lr": float}
    | {"checkpoint": (str, NoneType)},
    **{"dataset_argument": str, "data_sha256": str, "folder": str, "variant": str, "seed": int, "held_out": bool},
    **{"start": (dict, NoneType), "final": bool, "error": (str, NoneType), "mixed_precision": str, "metrics": NoneType},
}
_DONE = {
    "metrics": {"top1": float, "mean_per_class": float},
    "num_test": int,
    "parameters": int,
    "train_seconds": float,
}

_logger = logging.getLogger(__name__)


def trial_result(
    config: FewShotConfig,
    trial: Trial,
    accelerator: Accelerator,
    outcome: Outcome | None = None,
    error: str | None = None,
    final: bool = True,
) -> Result:
    """Return all that is needed to repeat a trial, and what it gave.

    Args:
        config: Settings.
        trial: The trial.
        accelerator: Distributed the work.
        outcome: What it gave, None where it failed.
        error: Why it failed.
        final: Whether trying again would give the same.
    """
    return {
        "dataset": trial.data.info.as_dict(),
        "dataset_argument": trial.data.argument,
        "data_sha256": trial.data.contents.sha256,
        "folder": trial.folder.as_posix(),
        "model": parse_variant(config.model, trial.variant).model,
        "start": _start(config, outcome),
        "variant": trial.variant,
        "seed": trial.seed,
        "held_out": trial.held_out,
        "error": error,
        "final": final,
        **_figures(config, outcome),
        "command": command_line(
            config, variants=[trial.variant], dataset=[trial.data.argument], seeds=[trial.seed], lr_sweep=[]
        ),
        "settings": config.trial_settings(),
        "num_processes": accelerator.num_processes,
        "cpu_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type,
        "mixed_precision": accelerator.mixed_precision,
        "versions": {"timm-lp": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    """Return the versions of what draws, decodes, augments and computes."""
    versions = {}
    for name in ("timm", "torch", "torchvision", "accelerate", "datasets", "numpy", "pillow"):
        with suppress(PackageNotFoundError):  # `datasets`, where only folders are read
            versions[name] = version(name)
    return versions


def _figures(config: FewShotConfig, outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {"metrics": None, "num_test": None, "parameters": None, "train_seconds": None}
    progress, drawn = outcome.progress, outcome.drawn
    num_train = len(drawn.train)
    num_used = num_train - num_train % min(config.batch_size, num_train)  # an incomplete batch is left out
    return {
        "metrics": outcome.metrics,
        "num_test": outcome.num_test,
        "num_train": num_train,
        "short_classes": drawn.short,
        "parameters": sum(parameter.numel() for parameter in outcome.model.parameters()),
        "train_seconds": progress.train_seconds,
        "data_wait_seconds": progress.data_wait_seconds,
        "test_seconds": outcome.test_seconds,
        "train_images_per_second": progress.epochs * num_used / progress.train_seconds,
        "peak_memory_mib": outcome.peak_memory_mib,
        "losses": progress.losses,
        "indices": list(drawn.train.indices),
    }


def _start(config: FewShotConfig, outcome: Outcome | None) -> dict[str, Any] | None:
    """Return where the network's weights started from, None where that is not known."""
    if outcome is None:
        return None
    if not config.pretrained and config.checkpoint is None:
        return Start("random").as_dict()
    start = pretrained_start(getattr(outcome.model, "pretrained_cfg", {}))
    if start is not None and start.kind == "checkpoint":
        start = replace(start, sha256=config.trial_settings()["checkpoint_sha256"])
    return None if start is None else start.as_dict()


def read_finished(
    output_dir: Path, trial: Trial, config: FewShotConfig, accelerator: Accelerator, but: tuple[str, ...] = ()
) -> Result | None:
    """Return the result of a trial that was run before and need not be run again.

    Args:
        output_dir: Where the trials are.
        trial: The trial.
        config: Settings.
        accelerator: Distributes the work.
        but: Settings that may differ.

    Raises:
        ValueError: If it was run with other settings, or the file is another program's or version's.
    """
    path = output_dir / trial.folder / TRIAL_FILE
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        _logger.warning("%s cannot be read, and its trial runs again: %s", path, error)
        return None
    _check_record(path, before)
    now = json.loads(json.dumps(decisive_settings(config, trial.data, accelerator)))
    was = {**before["settings"], **{key: before.get(key) for key in ("mixed_precision", "data_sha256")}}
    passed = but if before["final"] else (*but, "data_sha256")  # what failed may have been mended
    differ = [name for name in now if was.get(name) != now[name] and name not in passed]
    if differ:
        listed = ", ".join(_IN_WORDS.get(name) or f"{name} {was.get(name)} instead of {now[name]}" for name in differ)
        raise ValueError(
            f"`output_dir` must not hold trials with other settings, got {path}: {listed}. Choose another --output-dir."
        )
    return {**before, "dataset_argument": trial.data.argument} if before["final"] else None


def under_earlier_name(output_dir: Path, data: DataSet, taken: Collection[str]) -> DataSet:
    """Return a data set by the name that it had in the trials of an output folder: its own folder may be renamed.

    Args:
        output_dir: Where the trials are.
        data: The data set.
        taken: Names of the other data sets' folders there.
    """
    if data.location is None or (output_dir / data.folder).exists():
        return data
    for path in sorted(output_dir.rglob(TRIAL_FILE)):
        with suppress(ValueError, LookupError, TypeError):  # no trial's record: `read_results` says so
            before = json.loads(path.read_text(encoding="utf-8"))
            folder = before["folder"].split("/")[0]
            known = path == output_dir / before["folder"] / TRIAL_FILE and folder not in taken
            if known and before["data_sha256"] == data.contents.sha256:
                return replace(data, folder=folder, info=DataInfo(**before["dataset"]))
    return data


def _check_record(path: Path, content: Any) -> None:
    """Refuse what is no record of a trial, or lacks what this version writes.

    Raises:
        ValueError: If it is none.
    """
    done = isinstance(content, dict) and content.get("metrics") is not None
    wrong = list(_wrong_fields(content, {**_RECORD, **_DONE} if done else _RECORD, "record"))
    if wrong:
        raise ValueError(
            f"`output_dir` must hold trials of this version of timm-lp, got {path}: {', '.join(wrong)} missing or of "
            "another type. Choose another --output-dir, or remove the file."
        )


def _wrong_fields(content: Any, expected: Any, name: str) -> Iterator[str]:
    """Yield the names of fields that are missing or of another type."""
    if not isinstance(expected, dict):
        if not isinstance(content, expected):
            yield name
    elif not isinstance(content, dict):
        yield name
    else:
        for key, kind in expected.items():
            yield from _wrong_fields(content.get(key, ...), kind, key)


def read_results(output_dir: Path) -> list[Result]:
    """Return the results of all trials below a folder.

    Raises:
        ValueError: If there is none, one cannot be read, or two do not belong in one table.
    """
    results: dict[Path, Result] = {}
    for path in sorted(output_dir.rglob(TRIAL_FILE)):
        try:
            results[path] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"`output_dir` must hold trials, got {path}, which is no JSON: {error}") from error
        _check_record(path, results[path])
    if not results:
        raise ValueError(f"`output_dir` must hold trials, got {output_dir} with no {TRIAL_FILE} in or below it.")
    _check_one_benchmark(results)
    return list(results.values())


def _check_one_benchmark(results: dict[Path, Result]) -> None:
    """Refuse trials that were run with different settings, or that are the same trial of two runs."""
    known: dict[str, tuple[Path, Any]] = {}
    for path, result in results.items():
        settings = {**result["settings"], "mixed_precision": result["mixed_precision"]}
        named = {name: value for name, value in settings.items() if name not in _PER_DATA_SET}
        named["list of settings"] = sorted(settings)
        data = result["folder"].split("/")[0]
        named[f"{data}: dataset"] = result["dataset"]
        named[f"{data}: contents"] = result["data_sha256"]
        if not result["held_out"]:
            named[f"{data}: lr"] = settings["lr"]
        named[result["folder"]] = str(path)
        for name, value in named.items():
            other, expected = known.setdefault(name, (path, value))
            if value != expected:
                what = "of the same name" if name == result["folder"] else f"with another {name}"
                raise ValueError(
                    f"`output_dir` must hold the trials of one benchmark, got {other} and {path} {what}. "
                    "Give the folder of one of them, or each run an --output-dir of its own."
                )


def card_results(results: list[Result], command: str) -> dict[str, Any]:
    """Return results as a model card takes them: the metrics of each variant on each data set, by seed.

    Args:
        results: What `trial_result` returned. Those on held-out images are left out; a trial that failed shows as
            null beside those of its variant that did not.
        command: The command that repeats them.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if not result["held_out"]:
            groups.setdefault((result["dataset_argument"], result["variant"]), []).append(result)
    tested = [group for group in groups.values() if any(result["metrics"] for result in group)]
    first = next((result for group in tested for result in group if result["metrics"]), {})
    return {
        "recipe": {"command": command, "start": first.get("start"), "settings": first.get("settings", {})},
        "results": [_card_entry(group) for group in tested],
    }


def _card_entry(group: list[Result]) -> dict[str, Any]:
    group = sorted(group, key=lambda result: result["seed"])
    first = next(result for result in group if result["metrics"])
    return {
        "dataset": first["dataset"],
        "shots": first["settings"]["shots"] or None,
        "variant": first["variant"],
        "lr": first["settings"]["lr"],
        "num_test": first["num_test"],
        "metrics": {
            name: {str(result["seed"]): (result["metrics"] or {}).get(name) for result in group}
            for name in first["metrics"]
        },
    }


def write_card_results(output_dir: Path, results: list[Result], config: FewShotConfig) -> None:
    """Write `results.json`: all results in the output folder, and in a trial's folder what its model's card shows.

    That is the trial's variant on its data set, and the base network to compare with.

    Args:
        output_dir: Where the trials are.
        results: What `trial_result` returned.
        config: The settings of the run.
    """
    write_json(output_dir / RESULTS_FILE, card_results(results, command_line(config)))
    for result in results:
        if result["metrics"] and not result["held_out"]:
            command = command_line(
                config,
                dataset=[result["dataset_argument"]],
                variants=[result["variant"]],
                lr=result["settings"]["lr"],
                lr_sweep=[],
            )
            beside = [other for other in results if other["dataset_argument"] == result["dataset_argument"]]
            own = [
                other
                for kind in dict.fromkeys((result["variant"], BASE))
                for other in beside
                if other["variant"] == kind
            ]
            content = card_results(own, command)
            content["recipe"] |= {"variant": result["variant"], "seed": result["seed"]}
            write_json(output_dir / result["folder"] / RESULTS_FILE, content)


def save_model(folder: Path, outcome: Outcome, model_kwargs: dict[str, Any], class_names: list[str]) -> None:
    """Save a trained model as `timm.create_model("local-dir:<folder>", pretrained=True)` loads it."""
    keys = ("input_size", "interpolation", "mean", "std", "crop_pct")
    model_config = {"label_names": class_names, "pretrained_cfg": {key: outcome.data_config[key] for key in keys}}
    model = outcome.model.to(memory_format=torch.contiguous_format)  # safetensors takes no other
    save_for_hf(model, str(folder), model_config=model_config, model_args=dict(model_kwargs), safe_serialization=True)
    rights = (folder / "config.json").stat().st_mode
    (folder / "model.safetensors").chmod(rights)  # safetensors lets nobody else read, whatever the umask
