import timm
import torch
from torch import nn

from timm_lp import LpConv2d
from timm_lp.models.complexity import count_macs, count_parameters, to_meta


def test_masks_add_no_macs() -> None:
    lp, large = (timm.create_model(f"{prefix}_resnet18", device="meta") for prefix in ("lp2", "large"))
    assert count_macs(lp, (3, 64, 64)) == count_macs(large, (3, 64, 64))


def test_by_hand() -> None:
    model = nn.Sequential(LpConv2d(2, 4, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(4 * 25, 7))
    assert count_parameters(model) == (4 * 9 + 4 + 4 * 5) + (100 * 7 + 7)
    assert count_macs(model, (2, 5, 5)) == 4 * 9 * 25 + 100 * 7


def test_counting_leaves_the_network_alone() -> None:
    model = timm.create_model("lp2_resnet18", layers=[1, 1, 1, 1], channels=[8, 8, 16, 16]).half().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, (3, 32, 32))
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.is_meta for tensor in to_meta(model).state_dict().values())
