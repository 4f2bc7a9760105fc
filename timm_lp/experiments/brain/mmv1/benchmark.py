"""All trials of Table 5, mouse by mouse, each kept in a file so that an interrupted run goes on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm

from ....files import write_json
from .data import Mouse
from .metrics import LIMITS
from .training import Settings, run_trial

Result = dict[str, Any]


def run_benchmark(
    mice: Iterable[Mouse],
    variants: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    accelerator: Accelerator,
    output_dir: Path,
    *,
    synthetic: bool,
) -> list[Result]:
    """Train and test the variants on each mouse; what is in the output folder already is taken over.

    Args:
        mice: The mice, read one at a time.
        variants: As `build_network` takes them.
        seeds: Of weights and order.
        settings: How networks are trained.
        accelerator: Distributes the work.
        output_dir: Where the trials are kept.
        synthetic: Whether a program made the mice up.

    Raises:
        ValueError: If the folder holds a trial with other settings or data.
    """
    results = []
    for mouse in mice:
        trials = [(variant, seed) for variant in variants for seed in seeds]
        silent = None if accelerator.is_main_process else True  # None: where nobody watches
        for variant, seed in tqdm(trials, desc=mouse.name, unit="trial", disable=silent):
            path = output_dir / mouse.name / variant / f"seed{seed}.json"
            trial = {"mouse": mouse.name, "variant": variant, "seed": seed, "synthetic": synthetic}
            depends_on = {**trial, "data_sha256": mouse.digest, "settings": json.loads(json.dumps(asdict(settings)))}
            result = _read(path, depends_on)
            if result is None:
                accelerator.wait_for_everyone()  # nobody may find what the main process has just written
                measured = run_trial(mouse, variant, seed, settings, accelerator)
                result = {**depends_on, **measured, "num_processes": accelerator.num_processes}
                if accelerator.is_main_process:
                    write_json(path, result)
            results.append(result)
    return results


def _read(path: Path, depends_on: Result) -> Result | None:
    """Return a trial that was run before, None where there is none."""
    if not path.is_file():
        return None
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        differ = [name for name, value in depends_on.items() if before[name] != value]
        odd = [f"{name} {before[name]}" for name, (least, most) in LIMITS.items() if not least <= before[name] <= most]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"`--output-dir` must hold trials of this command, got {path}: {error}") from error
    if odd:
        raise ValueError(
            f"`--output-dir` must hold trials as they were run, got {path} with {', '.join(odd)}. Remove the file, and "
            "run its trial again."
        )
    if differ:
        raise ValueError(
            f"`--output-dir` must not hold trials with other {' or '.join(differ)}, got {path}. Choose another one."
        )
    return before
