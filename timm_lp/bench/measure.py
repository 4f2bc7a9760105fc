"""Measure the times of interleaved runs, and the peak memory of training in a process of its own."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import LpConv2d
from .cases import Case, Layer
from .modes import Mode

Step = Callable[[], None]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_LEARNING_RATE = 1e-6  # takes nothing far from its start
_MIB = 2**20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}  # glibc's


def training_step(model: nn.Module, x: Tensor, mode: Mode) -> Step:
    """Return a step that computes a loss and all its gradients, with masks that are made anew, as in training.

    With `mode.optimizer` AdamW moves all parameters; without it `log2p` changes its sign, which changes no mask, but
    the next step has to compute the masks again.
    """
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, fused=True) if mode.optimizer else None

    def step() -> None:
        model.train()
        model.zero_grad()
        x.grad = None
        with mode.autocast():
            output = model(x)
            if output.dim() == 2:
                loss = F.cross_entropy(output, torch.arange(len(output), device=output.device) % output.shape[1])
            else:
                loss = output.sum()
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            return
        with torch.no_grad():
            for layer in layers:
                layer.log2p.neg_()

    return step


def evaluation_step(model: nn.Module, x: Tensor, mode: Mode) -> Step:
    """Return a step that computes a model's output without gradients."""

    def step() -> None:
        model.eval()
        with torch.no_grad(), mode.autocast():
            model(x)

    return step


def interleaved_ms(steps: dict[str, Step], runs: int, device: str, clock: str = "wall") -> dict[str, list[float]]:
    """Return the times of each step, milliseconds. The steps take turns, so that a slow moment slows all of them.

    Args:
        steps: The steps by name.
        runs: Measured runs of each step; two runs before them are not measured.
        device: What they run on.
        clock: A key of `CLOCKS`.
    """
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for run in range(-2, runs):
        for name in order:
            start = now()
            steps[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if run >= 0:
                times[name].append(1000 * (now() - start))
        order.reverse()
    return times


def summary(times: list[float]) -> dict[str, Any]:
    """Return the median and quartiles of times, and the times, milliseconds."""
    quartiles = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {"median_ms": quartiles[1], "quartiles_ms": [quartiles[0], quartiles[2]], "runs_ms": times}


def case_input(case: Case, mode: Mode) -> Tensor:
    """Return what a case takes in a mode, shape `(N, C, H, W)`; a layer's gradient in it is computed as well."""
    return mode.maps(case.input()) if isinstance(case, Layer) else mode.images(case.input())


def training_peak_mib(case: Case, form: str, mode: Mode) -> float | None:
    """Return the peak memory of two training steps, MiB: the parameters, and all that is added while training.

    On the CPU it is measured in a new process whose C library returns freed memory at once, so that only memory in use
    counts. It is None if the system does not tell.
    """
    before = dict(os.environ)
    os.environ.update(_RETURN_MEMORY)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_training_peak_mib, (case, form, mode))
    finally:
        os.environ.clear()
        os.environ.update(before)


def _training_peak_mib(case: Case, form: str, mode: Mode) -> float | None:
    torch.set_num_threads(mode.threads)
    model = mode.place(case.forms()[form]())
    step = training_step(model, case_input(case, mode), mode)
    parameters = sum(parameter.nbytes for parameter in model.parameters()) / _MIB
    if mode.device != "cpu":
        before = torch.cuda.memory_allocated() / _MIB
        torch.cuda.reset_peak_memory_stats()
        step()
        step()
        return torch.cuda.max_memory_allocated() / _MIB - before + parameters
    if not _STATUS.exists():
        return None
    _CLEAR.write_text("5")  # reset the peak: building the model is not part of training
    resident = _resident_mib("VmRSS")
    step()
    step()
    return _resident_mib("VmHWM") - resident + parameters


def _resident_mib(field: str) -> float:
    return int(_STATUS.read_text().split(f"{field}:")[1].split()[0]) / 1024


def machine_limits(runs: int = 5) -> dict[str, float]:
    """Return the CPU's best speeds: GFLOP/s of large matrix products, GB/s of a copy too large for any cache."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    low_a, low_b = a.bfloat16(), b.bfloat16()
    source = torch.randn(2**26)
    target = torch.empty_like(source)
    steps: dict[str, Callable[[], Any]] = {
        "mm": lambda: torch.mm(a, b),
        "low": lambda: torch.mm(low_a, low_b),
        "copy": lambda: target.copy_(source),
    }
    times = interleaved_ms(steps, runs, "cpu")
    return {
        "gflop_per_s": 2 * 2048**3 / min(times["mm"]) / 1e6,
        "bf16_gflop_per_s": 2 * 2048**3 / min(times["low"]) / 1e6,
        "gb_per_s": 2 * source.nbytes / min(times["copy"]) / 1e6,
    }
