"""Freed memory stays with the process: the same allocation again costs no page faults."""

import platform
import subprocess
import sys

import pytest

from timm_lp.experiments.allocation import keep_freed_memory

# Page faults of the last of 16 equal allocations of 40 MiB, before and after: what alignment cuts off blocks is joined
# after seven.
SCRIPT = """
import resource
import sys
from timm_lp.experiments.allocation import keep_freed_memory
import torch

def faults():
    for _ in range(16):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(10 * 2**20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

left = faults()
assert keep_freed_memory()
sys.stdout.write(f"{faults()} {left}")
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_not_handed_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    kept, left = map(int, done.stdout.split())
    assert kept < 10
    assert left > 10 * max(kept, 1)


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not keep_freed_memory()
