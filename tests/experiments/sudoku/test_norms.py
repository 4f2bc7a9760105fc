"""What a process sees of the shared norms; that several do what one does is tested with the processes."""

import torch
from torch import nn

from timm_lp.experiments.sudoku.norms import SharedBatchNorm2d, share_norms
from timm_lp.models.sudoku import create_network


def test_in_evaluation_they_are_batch_norms() -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    plain = nn.BatchNorm2d(4)
    plain(x)  # moves its statistics
    shared = SharedBatchNorm2d(4)
    shared.load_state_dict(plain.state_dict())
    assert torch.equal(shared.eval()(x), plain.eval()(x))


def test_all_norms_of_a_network_are_shared_and_its_state_stays() -> None:
    network = create_network("lp2", channels=3, depth=2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    share_norms(network)
    assert [type(block.norm) for block in network.blocks] == [SharedBatchNorm2d] * 2
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
