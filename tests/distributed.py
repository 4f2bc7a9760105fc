"""Process groups: of one process, for what needs a group at all, and of two."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .processes import ROOT, WarmPython

# Imports what most commands need, and runs the command line twice from there, with the variables that torchrun sets.
START_TWO = """
import os, runpy, socket, sys
import accelerate, datasets, matplotlib.pyplot, pandas, scipy.stats, sklearn.metrics, timm, torchvision

kept = socket.socket()  # until the first of the two listens there, so that no other process gets its port
kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
kept.bind(("127.0.0.1", 0))
port = kept.getsockname()[1]
children = []
for rank in range(2):
    child = os.fork()
    if child == 0:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        if sys.argv[1] == "-m":
            del sys.argv[:2]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            del sys.argv[:1]
            runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    children.append(child)
sys.exit(max(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) for child in children))
"""


@contextmanager
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def start_two_processes(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a file, or `-m` and a module, with its arguments as the two processes of a group.

    torchrun does the same in twice the time, since each of its processes imports everything for itself.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}  # a machine without a GPU
    command = [sys.executable, "-c", START_TWO, *map(str, arguments)]
    environment = {**os.environ, **ours, **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def run_on_two_processes(
    python: WarmPython, *arguments: str | Path, cwd: Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Return what two such processes said at their end."""
    return python("-c", START_TWO, *arguments, cwd=cwd, check=check, CUDA_VISIBLE_DEVICES="", **variables)
