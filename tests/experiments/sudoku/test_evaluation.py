import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from timm_lp.experiments.sudoku import generate_puzzles, score
from timm_lp.experiments.sudoku.evaluation import (
    cell_losses,
    evaluate,
    evaluate_one_at_a_time,
    fill_one_at_a_time,
)
from timm_lp.models.sudoku import create_network
from timm_lp.models.sudoku.board import Puzzles


@pytest.fixture(scope="module")
def data() -> Puzzles:
    return generate_puzzles(7, seed=0)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network whose outputs on all boards differ by far more than rounding."""
    torch.manual_seed(0)
    return create_network("lp2", channels=8, depth=2, inputs="one-hot").double()


class _Knows(nn.Module):
    """Knows the solution of a puzzle, but in one cell, where it guesses badly until all others are full."""

    def __init__(self, solution: np.ndarray, cell: tuple[int, int]) -> None:
        super().__init__()
        self.solution, self.cell = torch.from_numpy(solution).long() - 1, cell

    def forward(self, puzzles: Tensor) -> Tensor:
        logits = 8.0 * torch.nn.functional.one_hot(self.solution, 9).permute(2, 0, 1).repeat(len(puzzles), 1, 1, 1)
        i, j = self.cell
        too_soon = (puzzles > 0).sum(dim=(1, 2)) < 80
        logits[too_soon, :, i, j] = 0.0
        logits[too_soon, (int(self.solution[i, j]) + 1) % 9, i, j] = 4.0
        return logits


def test_the_loss_of_a_cell_is_the_surprise_at_its_digit(data: Puzzles) -> None:
    logits = torch.randn(7, 9, 9, 9, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    losses = cell_losses(logits, torch.from_numpy(data.solutions))
    assert losses.shape == (7, 9, 9)
    probabilities = logits.detach().numpy()
    probabilities = np.exp(probabilities) / np.exp(probabilities).sum(axis=1, keepdims=True)
    gradient = probabilities.copy()
    for n, i, j in np.ndindex(7, 9, 9):
        digit = data.solutions[n, i, j] - 1
        assert losses[n, i, j].item() == pytest.approx(-np.log(probabilities[n, digit, i, j]), rel=1e-5)
        gradient[n, digit, i, j] -= 1
    losses.sum().backward()
    np.testing.assert_allclose(logits.grad, gradient, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_evaluates_all_puzzles_whatever_the_batch(network: nn.Module, data: Puzzles, batch_size: int) -> None:
    accelerator = Accelerator(cpu=True)
    network.train()
    found = evaluate(network, data, batch_size=batch_size, accelerator=accelerator)
    assert not network.training
    with torch.no_grad():
        logits = network(torch.from_numpy(data.puzzles))
    expected = score(logits.argmax(dim=1) + 1, data.puzzles, data.solutions)
    loss = found.pop("loss")
    assert found == expected
    assert loss == pytest.approx(cell_losses(logits, torch.from_numpy(data.solutions)).mean().item())
    filled = evaluate_one_at_a_time(network, data, batch_size=batch_size, accelerator=accelerator)
    boards = fill_one_at_a_time(network, torch.from_numpy(data.puzzles)).boards
    assert filled == score(boards, data.puzzles, data.solutions)


def test_what_is_filled_helps_to_fill_the_rest(data: Puzzles) -> None:
    one = data.take(np.array([0]))
    cell = [int(place[0]) for place in np.nonzero(one.puzzles[0] == 0)]
    network, accelerator = _Knows(one.solutions[0], (cell[0], cell[1])), Accelerator(cpu=True)
    at_a_look = evaluate(network, one, batch_size=1, accelerator=accelerator)
    assert at_a_look["exact"] == 0
    assert at_a_look["number"] == pytest.approx(80 / 81)
    assert evaluate_one_at_a_time(network, one, batch_size=1, accelerator=accelerator)["exact"] == 1


def test_shows_a_loss_that_is_not_a_number(network: nn.Module, data: Puzzles) -> None:
    broken = create_network("base", channels=2, depth=1)
    broken.head.bias.data[0] = float("nan")
    assert np.isnan(evaluate(broken, data, batch_size=7, accelerator=Accelerator(cpu=True))["loss"])
    filled = fill_one_at_a_time(broken.eval(), torch.from_numpy(data.puzzles)).boards
    assert (filled > 0).all()
