"""All trials of Table 5, mouse by mouse, each in a folder of its own, so that an interrupted run goes on."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm

from ....files import TRIAL_FILE
from ....start import Start
from ....trials.folder import find_finished
from ....trials.record import DataInfo, TrialRecord, trial_folder, versions_of
from ....trials.runner import OnProgress, Runner, Task
from ....variants import BASE
from ...accelerator import machine_of, share
from .data import Mouse
from .training import Outcome, Settings, run_trial

_MODEL = "mmv1"
_FLAGS = ("frames", "epochs", "batch_size", "lr")  # settings that the command line has


def run_benchmark(
    mice: Iterable[Mouse],
    variants: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    accelerator: Accelerator,
    output_dir: Path,
    *,
    synthetic: bool,
    command: str,
) -> list[TrialRecord]:
    """Train and test the variants on each mouse, but for finished trials, and return the records of all.

    Args:
        mice: The mice, read one at a time.
        variants: Variants, as `build_network` takes them.
        seeds: Seeds of weights and order.
        settings: How networks are trained.
        accelerator: Distributes the work.
        output_dir: Where the trials are kept.
        synthetic: Whether a program made the mice up.
        command: The command of the run, with the flag of its data.

    Raises:
        ValueError: If the folder holds trials with other settings or data, or of an earlier version.
    """
    runner, records = Runner(output_dir, accelerator, share), []
    for mouse in mice:
        kept = {**asdict(settings), "synthetic": synthetic}
        tasks = [
            _task(_record(mouse, variant, seed, kept, command, accelerator), mouse, settings, accelerator)
            for variant in variants
            for seed in seeds
        ]
        for task in tasks:
            _check_earlier(output_dir, task.record)
            find_finished(output_dir / task.record.folder, task.record.decisive())
        silent = None if accelerator.is_main_process else True  # None: where nobody watches
        with tqdm(total=len(tasks), desc=mouse.name, unit="trial", disable=silent) as bar:
            records += [runner.run(task, bar) for task in tasks]
    return records


def _task(record: TrialRecord, mouse: Mouse, settings: Settings, accelerator: Accelerator) -> Task[Outcome]:
    def train(folder: Path, on_progress: OnProgress) -> Outcome:
        return run_trial(mouse, record.variant, record.seed, settings, accelerator, partial(on_progress, 0))

    return Task(record, length=1, train=train, figures=_figures)


def _record(
    mouse: Mouse, variant: str, seed: int, settings: dict[str, Any], command: str, accelerator: Accelerator
) -> TrialRecord:
    flags = {"variants": variant, "seeds": seed, **{name: settings[name] for name in _FLAGS}}
    flags = flags if settings["synthetic"] else {"mice": mouse.name, **flags}
    words = shlex.join(word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value)))
    return TrialRecord(
        folder=trial_folder(mouse.name, _MODEL, variant, seed),
        dataset=DataInfo(mouse.name, mouse.name),
        dataset_argument=mouse.name,
        data_sha256=mouse.digest,
        model=_MODEL,
        variant=variant,
        network=_MODEL if variant == BASE else f"{variant}_{_MODEL}",
        seed=seed,
        shots=None,
        held_out=False,
        settings=settings,
        command=f"{command} {words}",
        machine=machine_of(accelerator),
        versions=versions_of("torch", "accelerate", "numpy"),
        start=Start("random"),
    )


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a record that an outcome fills."""
    trained, validated = zip(*outcome.losses, strict=True)
    return {
        "metrics": outcome.metrics,
        "parameters": outcome.parameters,
        "train_seconds": outcome.train_seconds,
        "history": {"train_loss": list(trained), "loss": list(validated)},
    }


def _check_earlier(output_dir: Path, record: TrialRecord) -> None:
    """Refuse the file in which versions before trials had records kept a trial.

    Raises:
        ValueError: If there is one, and the trial has no record.
    """
    earlier = output_dir / record.data_folder / record.variant / f"seed{record.seed}.json"
    if earlier.is_file() and not (output_dir / record.folder / TRIAL_FILE).exists():
        raise ValueError(
            f"`--output-dir` must hold trials of this version of timm-lp, got {earlier} of an earlier one. Choose "
            "another one, or remove the file to run its trial again."
        )
