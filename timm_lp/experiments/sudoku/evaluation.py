"""Evaluate a network on puzzles: all cells at once, or one cell at a time."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ...models.sudoku.board import Puzzles, score
from ...models.sudoku.solving import fill_one_at_a_time

STEPWISE = "stepwise_"  # in front of the measures of puzzles that are filled one cell at a time
TEST_BATCH = 500  # puzzles of the test that a process looks at together


def cell_losses(logits: Tensor, solutions: Tensor) -> Tensor:
    """Return the cross-entropy of each cell, the givens included, shape `(N, 9, 9)`.

    Args:
        logits: Logits of the digits 1-9, shape `(N, 9, 9, 9)`, digits first.
        solutions: Digits 1-9, shape `(N, 9, 9)`.
    """
    return F.cross_entropy(logits.float(), solutions.long() - 1, reduction="none")


def evaluate(network: nn.Module, data: Puzzles, *, batch_size: int, accelerator: Accelerator) -> dict[str, float]:
    """Return the `score` of a network that fills all cells at a look, and its mean `loss` over the cells.

    The givens are not copied: the network's digits count in their cells too.

    Args:
        network: The network; it is put in evaluation mode.
        data: The puzzles.
        batch_size: Puzzles at a time, in each process.
        accelerator: Distributes the work.
    """

    def look(puzzles: Tensor, solutions: Tensor) -> tuple[Tensor, Tensor]:
        logits = network(puzzles)
        return logits.argmax(dim=1).to(torch.int8) + 1, cell_losses(logits, solutions).mean(dim=(1, 2))

    predicted, losses = _share_out(network, look, data, batch_size, accelerator)
    return {"loss": float(losses.mean()), **score(predicted, *data)}


def evaluate_one_at_a_time(
    network: nn.Module, data: Puzzles, *, batch_size: int, accelerator: Accelerator
) -> dict[str, float]:
    """Return the `score` of puzzles that a network fills one cell at a time, the surest first.

    Args:
        network: The network; it is put in evaluation mode.
        data: The puzzles.
        batch_size: Puzzles at a time, in each process.
        accelerator: Distributes the work.
    """

    def fill(puzzles: Tensor, solutions: Tensor) -> tuple[Tensor]:
        return (fill_one_at_a_time(network, puzzles).boards,)

    (filled,) = _share_out(network, fill, data, batch_size, accelerator)
    return score(filled, *data)


@torch.no_grad()
def _share_out(
    network: nn.Module,
    compute: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    data: Puzzles,
    batch_size: int,
    accelerator: Accelerator,
) -> list[np.ndarray]:
    """Compute something for each puzzle, each process for its share, and return the results of all to each.

    Args:
        network: The network; it is put in evaluation mode.
        compute: Maps a batch of puzzles and their solutions to tensors with as many rows.
        data: The puzzles.
        batch_size: Puzzles at a time, in each process.
        accelerator: Distributes the work.
    """
    network.eval()
    total = len(data.puzzles)
    puzzles, solutions = (torch.from_numpy(part) for part in data)
    # All processes compute as many: if the puzzles do not divide evenly, the first ones are computed twice.
    processes = accelerator.num_processes
    share = torch.arange(accelerator.process_index, total + -total % processes, processes) % total
    parts = []
    for indices in share.split(batch_size):
        with accelerator.autocast():
            parts.append(compute(*(part[indices].to(accelerator.device) for part in (puzzles, solutions))))
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    indices, *columns = accelerator.gather([share.to(accelerator.device), *columns])
    order = indices.cpu().numpy()
    whole = []
    for column in columns:
        values = column.cpu().numpy()
        whole.append(np.empty((total, *values.shape[1:]), dtype=values.dtype))
        whole[-1][order] = values
    return whole


def in_percent(measures: dict[str, float]) -> dict[str, float]:
    """Return measures with fractions as percentages; the loss stays."""
    return {name: value if name == "loss" else 100 * value for name, value in measures.items()}
