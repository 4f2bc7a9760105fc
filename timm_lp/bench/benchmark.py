"""Run the measurements, case by case and mode by mode."""

import platform
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from .cases import Case, Layer
from .measure import (
    case_input,
    evaluation_step,
    interleaved_ms,
    machine_limits,
    summary,
    training_peak_mib,
    training_step,
)
from .modes import Mode

_TRAINED = ("large", "base", "lp")


def run_benchmark(
    cases: Sequence[Case], modes: Sequence[Mode], *, runs: int, clock: str = "wall", memory: bool = True
) -> dict[str, Any]:
    """Measure the cases one after the other, each in every mode.

    Args:
        cases: What to measure.
        modes: How to run it; all on the same device.
        runs: Measured runs of each form and mode.
        clock: "wall", or "cpu" for the time that the process ran, to which others on a busy machine add little; on more
            than one thread it counts their waiting too.
        memory: Whether to measure the training steps' peak memory, each in a process of its own.

    Returns:
        The machine, and a result for each case and mode: its name, kind and mode (of a layer `family` and
        `kernel_size` too), `training` and `evaluation` by form
        (see `summary`), `training_peak_mib` by form, and `gflop`, the operations of the large form's evaluation, 1e9.
    """
    torch.set_num_threads(modes[0].threads)
    machine = describe_machine(modes[0].device)
    pairs = tqdm([*product(cases, modes)], desc="cases", unit="case", smoothing=0)
    results = [_measure(case, mode, runs, clock, memory) for case, mode in pairs]
    return {"machine": machine, "runs": runs, "clock": clock, "results": results}


def describe_machine(device: str) -> dict[str, Any]:
    """Return the hardware and the versions that the figures depend on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        **(machine_limits() if device == "cpu" else {}),
    }


def _cpu_name() -> str:
    return f"CPU with {torch.backends.cpu.get_cpu_capability()}"


def _measure(case: Case, mode: Mode, runs: int, clock: str, memory: bool) -> dict[str, Any]:
    torch.set_num_threads(mode.threads)
    x = case_input(case, mode)
    models = {form: mode.place(build()) for form, build in case.forms().items()}
    trained = [form for form in _TRAINED if form in models and case.training]
    evaluated = {form: evaluation_step(model, x, mode) for form, model in models.items()}
    evaluation = interleaved_ms(evaluated, runs, mode.device, clock)
    steps = {form: training_step(models[form], x, mode) for form in trained}
    training = interleaved_ms(steps, runs, mode.device, clock)
    with FlopCounterMode(display=False) as counter:
        evaluated["large"]()
    return {
        "name": str(case),
        "kind": "layer" if isinstance(case, Layer) else "network",
        "mode": str(mode),
        **({"family": case.family, "kernel_size": case.kernel_size} if isinstance(case, Layer) else {}),
        "training": {form: summary(times) for form, times in training.items()},
        "evaluation": {form: summary(times) for form, times in evaluation.items()},
        "training_peak_mib": {form: training_peak_mib(case, form, mode) for form in trained} if memory else {},
        "gflop": counter.get_total_flops() / 1e9,
    }
