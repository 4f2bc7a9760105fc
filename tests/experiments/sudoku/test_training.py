import copy
import math
from functools import partialmethod

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.data import TrainingBatches
from timm_lp.experiments.sudoku.symmetries import fingerprints
from timm_lp.experiments.sudoku.training import Training
from timm_lp.models.sudoku import SudokuNet, create_network
from timm_lp.models.sudoku.board import Puzzles


@pytest.fixture(scope="module")
def data() -> Puzzles:
    return generate_puzzles(11, seed=0)


def _strings(boards: Tensor) -> list[bytes]:
    return [board.numpy().tobytes() for board in boards]


def _network(variant: str = "lp2", seed: int = 0) -> SudokuNet:
    torch.manual_seed(seed)
    return create_network(variant, channels=4, depth=2, inputs="one-hot")


def _training(data: Puzzles, network: nn.Module | None = None, seed: int = 0, **settings: object) -> Training:
    settings = {"steps": 20, "lr": 0.01, "accelerator": Accelerator(cpu=True), **settings}
    return Training(network or _network(), TrainingBatches(data, batch_size=4, seed=seed), **settings)


def test_an_epoch_has_each_puzzle_once(data: Puzzles) -> None:
    batches = TrainingBatches(data, batch_size=11, seed=0, augment=False)
    orders = []
    for step in range(2):
        puzzles, solutions = batches.batch(step)
        assert sorted(_strings(puzzles)) == sorted(_strings(torch.from_numpy(data.puzzles)))
        assert ((puzzles == 0) | (puzzles == solutions)).all()
        orders.append(_strings(puzzles))
    assert orders[0] != orders[1]
    small = TrainingBatches(data, batch_size=4, seed=0, augment=False)
    assert small.steps_per_epoch == 2
    assert [*_strings(small.batch(0)[0]), *_strings(small.batch(1)[0])] == orders[0][:8]
    assert _strings(small.batch(2)[0]) == orders[1][:4]


def test_augmentation_turns_each_puzzle_anew_in_each_epoch(data: Puzzles) -> None:
    batches = TrainingBatches(data, batch_size=11, seed=0)
    seen = []
    for step in range(3):
        puzzles, solutions = batches.batch(step)
        assert ((puzzles == 0) | (puzzles == solutions)).all()
        assert ((puzzles > 0).sum(dim=(1, 2)).sort().values.numpy() == np.sort((data.puzzles > 0).sum((1, 2)))).all()
        assert sorted(fingerprints(solutions.numpy())) == sorted(fingerprints(data.solutions))
        seen += _strings(solutions)
    assert len(set(seen)) == 33


def test_a_batch_depends_on_the_seed_and_the_step_alone(data: Puzzles) -> None:
    batches = TrainingBatches(data, batch_size=4, seed=0, transpose=True)
    expected = [batches.batch(step) for step in range(6)]
    torch.manual_seed(7)
    again = TrainingBatches(data, batch_size=4, seed=0, transpose=True)
    for step in (5, 1, 4, 0):
        assert all(torch.equal(one, other) for one, other in zip(again.batch(step), expected[step], strict=True))
    other = TrainingBatches(data, batch_size=4, seed=1, transpose=True)
    assert not torch.equal(other.batch(0)[0], expected[0][0])
    larger = TrainingBatches(data, batch_size=5, seed=0, transpose=True)
    assert torch.equal(larger.batch(0)[0][:4], expected[0][0])


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_a_batch_make_it_whole(data: Puzzles, parts: int) -> None:
    batches = TrainingBatches(data, batch_size=4, seed=0)
    for number, whole in enumerate(batches.batch(3)):
        pieces = [batches.batch(3, part, parts)[number] for part in range(parts)]
        assert {len(piece) for piece in pieces} == {4 // parts}
        assert sorted(_strings(torch.cat(pieces))) == sorted(_strings(whole))


@pytest.mark.parametrize("batch_size", [0, 12])
def test_refuses_a_batch_that_there_is_not(data: Puzzles, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"`batch_size` must be from 1 to the 11 puzzles .*, got {batch_size}"):
        TrainingBatches(data, batch_size, seed=0)


def _train_by_hand(network: nn.Module, data: Puzzles, lrs: list[float]) -> list[float]:
    """Train with Adam as its paper writes it, on the mean surprise at all 81 digits."""
    batches, losses = TrainingBatches(data, batch_size=4, seed=0), []
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    first, second = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    for step, lr in enumerate(lrs):
        puzzles, solutions = batches.batch(step)
        probabilities = network(puzzles).softmax(dim=1)
        cells = [probabilities[n, solutions[n, i, j] - 1, i, j] for n, i, j in np.ndindex(4, 9, 9)]
        loss = -torch.stack(cells).log().mean()
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient, mean, square in zip(parameters, gradients, first, second, strict=True):
                mean.mul_(0.9).add_(0.1 * gradient)
                square.mul_(0.999).add_(0.001 * gradient**2)
                update = mean / (1 - 0.9 ** (step + 1)) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                parameter -= lr * update
            for name, parameter in network.named_parameters():
                if name.endswith("log2p"):
                    parameter.clamp_(min=1)
    return losses


@pytest.mark.parametrize("variant", ["base", "large", "lp2", "lp256f"])
@pytest.mark.parametrize("cosine", [False, True])
def test_trains_as_adam_does(data: Puzzles, variant: str, cosine: bool) -> None:
    network = _network(variant).double()
    expected = copy.deepcopy(network)
    lrs = [0.01 * (0.5 + 0.5 * math.cos(math.pi * step / 5) if cosine else 1) for step in range(5)]
    losses = _train_by_hand(expected.train(), data, lrs)
    training = _training(data, network, steps=5, cosine=cosine)
    assert training.advance(2) == pytest.approx(np.mean(losses[:2]), rel=1e-5)
    assert training.advance(100) == pytest.approx(np.mean(losses[2:]), rel=1e-5)
    assert training.progress.steps == 5
    assert training.progress.losses == pytest.approx([np.mean(losses[:2]), np.mean(losses[2:])], rel=1e-5)
    assert training.progress.train_seconds > 0
    for name, value in training.network.state_dict().items():
        # Norms take the convolutions' biases out of the outputs; their gradients are rounding, which Adam enlarges.
        if not name.endswith("conv.bias"):
            torch.testing.assert_close(value, expected.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)


def test_keeps_p_at_two_after_each_step(data: Puzzles) -> None:
    network = _network()
    for conv in (*network.convs, network.head):
        conv.log2p.data.fill_(0.5)
    training = _training(data, network, steps=2, lr=1e-4)
    training.advance(1)
    assert all((conv.log2p == 1).all() for conv in (*network.convs, network.head))
    training.advance(1)
    assert all((conv.log2p >= 1).all() for conv in (*network.convs, network.head))


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_goes_on_from_its_state_with_the_same_numbers(data: Puzzles, mixed_precision: str, channels_last: bool) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision=mixed_precision)
    settings = {"accelerator": accelerator, "channels_last": channels_last, "cosine": True}
    whole = _training(data, **settings)
    losses = [whole.advance(3), whole.advance(4)]
    half = _training(data, **settings)
    half.advance(3)
    state = copy.deepcopy(half.state_dict())
    resumed = _training(data, _network(seed=1), **settings)
    resumed.load_state_dict(state)
    assert resumed.progress.steps == 3
    assert resumed.advance(4) == losses[1]
    assert resumed.progress.losses == losses
    assert resumed.progress.train_seconds > state["progress"]["train_seconds"]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name


def test_puts_the_channels_last_where_asked(data: Puzzles) -> None:
    for channels_last in (False, True):
        network = _training(data, channels_last=channels_last).network
        seen: list[bool] = []
        network.blocks[1].register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
        )
        network(torch.from_numpy(data.puzzles))
        assert seen == [channels_last]


def test_every_training_is_compiled(data: Puzzles, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch compiles so many networks, and no more."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))  # a tenth of the time
    expected = _training(data, _network("base")).advance(2)
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(2):
            training = _training(data, _network("base"), compile=True)
            assert training.advance(2) == pytest.approx(expected, rel=1e-4)
            assert training.network._compiled_call_impl is not None
    torch.compiler.reset()


def test_refuses_steps_beyond_the_end(data: Puzzles) -> None:
    training = _training(data, steps=2)
    with pytest.raises(ValueError, match=r"`steps` must be positive .*, got 0 after 0 of 2 steps"):
        training.advance(0)
    training.advance(5)
    assert training.progress.steps == 2
    with pytest.raises(ValueError, match=r"not at its end, got 1 after 2 of 2 steps"):
        training.advance(1)
