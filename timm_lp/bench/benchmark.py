"""Run the measurements, case by case."""

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from .cases import Layer, Network
from .measure import (
    evaluation_step,
    interleaved_ms,
    machine_limits,
    summary,
    training_peak_mib,
    training_step,
)

_TRAINED = ("large", "base", "lp")


def run_benchmark(
    cases: Sequence[Network | Layer], *, runs: int, device: str, threads: int, memory: bool = True
) -> dict[str, Any]:
    """Measure the cases one after the other.

    Args:
        cases: What to measure.
        runs: Measured runs of each form and mode.
        device: "cpu" or "cuda".
        threads: Threads that torch uses on the CPU.
        memory: Whether to measure the training steps' peak memory, each in a process of its own.

    Returns:
        The machine, and a result for each case: its name, `training` and `evaluation` by form (see `summary`),
        `training_peak_mib` by form, and `gflop`, the operations of the large form's evaluation, 1e9.
    """
    torch.set_num_threads(threads)
    results = [
        _measure(case, runs, device, threads, memory) for case in tqdm(cases, desc="cases", unit="case", smoothing=0)
    ]
    return {"machine": describe_machine(device, threads), "runs": runs, "results": results}


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """Return the hardware and the versions that the figures depend on."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        **(machine_limits() if device == "cpu" else {}),
    }


def _cpu_name() -> str:
    return f"CPU with {torch.backends.cpu.get_cpu_capability()}"


def _measure(case: Network | Layer, runs: int, device: str, threads: int, memory: bool) -> dict[str, Any]:
    x = case.input().to(device).detach().requires_grad_(isinstance(case, Layer))
    models = {form: build().to(device) for form, build in case.forms().items()}
    trained = [form for form in _TRAINED if form in models]
    evaluation = interleaved_ms({form: evaluation_step(model, x) for form, model in models.items()}, runs, device)
    training = interleaved_ms({form: training_step(models[form], x) for form in trained}, runs, device)
    with FlopCounterMode(display=False) as counter:
        evaluation_step(models["large"], x)()
    return {
        "name": str(case),
        "kind": type(case).__name__.lower(),
        "training": {form: summary(times) for form, times in training.items()},
        "evaluation": {form: summary(times) for form, times in evaluation.items()},
        "training_peak_mib": {form: training_peak_mib(case, form, device, threads) for form in trained}
        if memory
        else {},
        "gflop": counter.get_total_flops() / 1e9,
    }
