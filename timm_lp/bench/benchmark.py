"""Run the measurements, case by case and mode by mode."""

import platform
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import nn
from torch._inductor.utils import fresh_inductor_cache
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from .cases import Case, Layer
from .measure import (
    Step,
    case_input,
    evaluation_step,
    interleaved_ms,
    machine_limits,
    summary,
    training_peak_mib,
    training_step,
)
from .modes import Mode

_COMPILED = {form: f"{form} compiled" for form in ("large", "lp")}
_TRAINED = ("large", "base", "lp", *_COMPILED.values())


def run_benchmark(
    cases: Sequence[Case],
    modes: Sequence[Mode],
    *,
    runs: int,
    clock: str = "wall",
    memory: bool = True,
    compiled: bool = False,
) -> dict[str, Any]:
    """Measure the cases one after the other, each in every mode.

    Args:
        cases: What to measure.
        modes: How to run it; all on the same device.
        runs: Measured runs of each form and mode.
        clock: "wall", or "cpu" for the time that the process ran, to which others on a busy machine add little; on more
            than one thread it counts their waiting too.
        memory: Whether to measure the training steps' peak memory, each in a process of its own.
        compiled: Whether to measure the large and the Lp form under torch.compile too, as `large compiled` and `lp
            compiled`, and how long they take to warm up.

    Returns:
        The machine, and a result for each case and mode: its name, kind and mode (of a layer `family` and
        `kernel_size` too), `training` and `evaluation` by form
        (see `summary`), `training_peak_mib` and, of the compiled forms, `warm_up_s` by form, and `gflop`, the
        operations of the large form's evaluation, 1e9.
    """
    torch.set_num_threads(modes[0].threads)
    machine = describe_machine(modes[0].device)
    pairs = tqdm([*product(cases, modes)], desc="cases", unit="case", smoothing=0)
    results = [_measure(case, mode, runs, clock, memory, compiled) for case, mode in pairs]
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


def _measure(case: Case, mode: Mode, runs: int, clock: str, memory: bool, compiled: bool) -> dict[str, Any]:
    torch.set_num_threads(mode.threads)
    x, builders = case_input(case, mode), case.forms()
    models = {form: mode.place(build()) for form, build in builders.items()}
    if compiled:
        models |= {name: _compile(mode.place(builders[form]())) for form, name in _COMPILED.items()}
    trained = [form for form in _TRAINED if form in models and case.training]
    evaluated = {form: evaluation_step(model, x, mode) for form, model in models.items()}
    steps = {form: training_step(models[form], x, mode) for form in trained}
    warm_up = _warm_up_seconds(evaluated, steps) if compiled else {}
    evaluation = interleaved_ms(evaluated, runs, mode.device, clock)
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
        "training_peak_mib": {
            form: training_peak_mib(case, form, mode) for form in trained if memory and form in builders
        },
        "warm_up_s": warm_up,
        "gflop": counter.get_total_flops() / 1e9,
    }


def _compile(model: nn.Module) -> nn.Module:
    torch.compiler.reset()  # or the networks of other cases count, and torch stops compiling after a few
    model.compile()
    return model


def _warm_up_seconds(evaluated: dict[str, Step], trained: dict[str, Step]) -> dict[str, float]:
    """Return how long the first steps of each compiled form take, with nothing on the disk from other networks."""
    torch.compile(torch.neg)(torch.ones(1))  # the compiler looks at the machine once, for all
    seconds = {}
    for form in _COMPILED.values():
        with fresh_inductor_cache():
            start = time.perf_counter()
            for steps in (evaluated, trained):
                if form in steps:
                    steps[form]()
            seconds[form] = time.perf_counter() - start
    return seconds
