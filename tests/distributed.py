"""A process group of one process, for what needs a group at all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
