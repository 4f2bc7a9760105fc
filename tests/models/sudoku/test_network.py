import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.layers import LpConv2d, lp_mask
from timm_lp.models.sudoku import SudokuNet, create_network, keep_exponents
from timm_lp.variants import SUDOKU_VARIANTS

STARTS_AS_BASE = [name for name in SUDOKU_VARIANTS if not name.endswith(("-paper", "-reinit", "-published"))]


def _puzzles(n: int = 3) -> Tensor:
    return torch.from_numpy(generate_puzzles(n, seed=0).puzzles)


def _create(variant: str, seed: int = 0, inputs: str = "one-hot") -> SudokuNet:
    """Return a network in float64 whose norms and biases are not at their starts."""
    torch.manual_seed(seed)
    network = create_network(variant, channels=6, depth=2, inputs=inputs).double()
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape))
    return network.eval()


def _by_hand(network: SudokuNet, puzzles: Tensor) -> Tensor:
    """Compute the base network board by board and block by block."""
    outputs = []
    for puzzle in puzzles:
        planes = [puzzle / 9 - 0.5] if network.inputs == "scalar" else [puzzle == digit for digit in range(10)]
        x = torch.stack([plane.double() for plane in planes])[None]
        for block in network.blocks:
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
            x = F.conv2d(x, block.conv.weight, block.conv.bias)
            mean, scale = block.norm.running_mean, (block.norm.running_var + block.norm.eps).sqrt()
            x = (x - mean[:, None, None]) / scale[:, None, None]
            x = (x * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]).clamp(min=0)
        outputs.append(F.conv2d(x, network.head.weight, network.head.bias))
    return torch.cat(outputs)


@pytest.mark.parametrize("inputs", ["scalar", "one-hot"])
def test_the_base_network_is_the_papers(inputs: str) -> None:
    network, puzzles = _create("base", inputs=inputs), _puzzles()
    logits = network(puzzles)
    assert logits.shape == (3, 9, 9, 9)
    torch.testing.assert_close(logits, _by_hand(network, puzzles))


def test_has_the_papers_number_of_parameters() -> None:
    sizes = {inputs: sum(p.numel() for p in SudokuNet(inputs=inputs).parameters()) for inputs in ("scalar", "one-hot")}
    blocks = 9 * (9 * 256 * 256 + 256) + 256 + 10 * 2 * 256
    assert sizes == {"scalar": 9 * 256 + blocks + 257 * 9, "one-hot": 90 * 256 + blocks + 257 * 9}


def test_the_variants_are_those_of_the_library() -> None:
    assert SUDOKU_VARIANTS == (
        *("base", "large", "large-reinit", "large-published"),
        *(name for p in ("2", "4", "8", "16", "256f") for name in (f"lp{p}", f"lp{p}-paper", f"lp{p}-published")),
    )


@pytest.mark.parametrize("variant", SUDOKU_VARIANTS[1:])
def test_a_variant_has_large_kernels(variant: str) -> None:
    network = _create(variant)
    layers = [*network.convs, network.head]
    assert [layer.kernel_size for layer in layers] == [(7, 7), (7, 7), (3, 3)]
    assert [layer.padding for layer in layers] == [(2, 2), (2, 2), (1, 1)]
    masked = variant.startswith("lp")
    assert [type(layer) for layer in layers] == [LpConv2d if masked else nn.Conv2d] * 3
    if masked:
        assert [layer.sigma_init for layer in layers] == [(1.5, 1.5), (1.5, 1.5), (0.5, 0.5)]
        assert {layer.p_init for layer in layers} == {float(variant.partition("-")[0].strip("lpf"))}
        assert {layer.C.requires_grad for layer in layers} == {not variant.startswith("lp256f")}


@pytest.mark.parametrize("variant", STARTS_AS_BASE)
def test_a_variant_starts_as_the_base_network(variant: str) -> None:
    torch.testing.assert_close(_create(variant)(_puzzles()), _create("base")(_puzzles()))


@pytest.mark.parametrize(("variant", "p"), [("lp2-paper", 2), ("lp16-paper", 16)])
def test_masks_damp_the_papers_variants(variant: str, p: int) -> None:
    network, base = _create(variant), _create("base")
    for layer, conv in zip(network.convs, base.convs, strict=True):
        torch.testing.assert_close(layer.weight, F.pad(conv.weight, (2, 2, 2, 2)))
        corner = layer.masked_weight()[..., 2, 4]
        torch.testing.assert_close(corner, conv.weight[..., 0, 2] * math.exp(-2 * (1 / 1.5) ** p))


def test_reinit_starts_at_random() -> None:
    network, again, other = (_create("large-reinit", seed) for seed in (0, 0, 1))
    base = _create("base")
    for name, conv in (("head", base.head), ("blocks.1.conv", base.convs[1])):
        weight = network.get_submodule(name).weight
        margin = (weight.shape[-1] - conv.weight.shape[-1]) // 2
        assert torch.equal(weight, again.get_submodule(name).weight)
        assert not torch.equal(weight, other.get_submodule(name).weight)
        assert (weight[..., 0, :] != 0).all()
        assert (weight[..., margin:-margin, margin:-margin] != conv.weight).any()


@pytest.mark.parametrize("variant", ["large-published", "lp2-published", "lp16-published", "lp256f-published"])
def test_published_starts_as_the_authors_networks_do(variant: str) -> None:
    """The small kernel as torch starts it, in the centre of a large one as torch starts that: two deviations."""
    torch.manual_seed(0)
    network = create_network(variant, channels=64, depth=3)
    torch.manual_seed(0)
    base = create_network("base", channels=64, depth=3)
    for conv, small in zip([*network.convs[1:], network.head], [*base.convs[1:], base.head], strict=True):
        ring = (conv.kernel_size[0] - small.kernel_size[0]) // 2
        centre = conv.weight[:, :, ring:-ring, ring:-ring]
        assert torch.equal(centre, small.weight)
        assert torch.equal(conv.bias, small.bias)
        outer = torch.ones(conv.kernel_size, dtype=torch.bool)
        outer[ring:-ring, ring:-ring] = False
        for taps, kernel in ((centre, small), (conv.weight[:, :, outer], conv)):
            fan_in = 64 * math.prod(kernel.kernel_size)
            assert taps.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.1)
            assert taps.abs().max() <= 1 / math.sqrt(fan_in)
    if variant != "large-published":
        expected = conv.weight * lp_mask(conv.C, conv.log2p, conv.kernel_size)
        torch.testing.assert_close(network.head.masked_weight(), expected)


def test_frozen_boxes_train_as_the_base_network_does() -> None:
    """At p = 256 and half the small kernel's width, the mask is the small kernel's box (the dagger of Figure 4)."""
    frozen, base = _create("lp256f-paper").train(), _create("base").train()
    for network in (frozen, base):
        network(_puzzles()).square().sum().backward()
    torch.testing.assert_close(frozen(_puzzles()), base(_puzzles()))
    for layer, conv in zip([*frozen.convs, frozen.head], [*base.convs, base.head], strict=True):
        assert layer.C.grad is None
        assert layer.log2p.grad is None
        ring = (layer.kernel_size[0] - conv.kernel_size[0]) // 2
        torch.testing.assert_close(layer.weight.grad, F.pad(conv.weight.grad, 4 * (ring,)))
        torch.testing.assert_close(layer.bias.grad, conv.bias.grad)


def test_exponents_are_kept_at_two_or_above() -> None:
    network = _create("lp2")
    layers = [*network.convs, network.head]
    starts = []
    for layer in layers:
        layer.log2p.data = torch.linspace(-1, 3, len(layer.log2p), dtype=torch.float64)
        starts.append((layer.log2p.tolist(), layer.C.clone()))
    keep_exponents(network)
    for layer, (log2p, C) in zip(layers, starts, strict=True):
        assert layer.log2p.tolist() == [max(exponent, 1.0) for exponent in log2p]
        assert torch.equal(layer.C, C)
    keep_exponents(network, lowest=4)
    assert min(layer.log2p.min().item() for layer in layers) == 2
    assert all(layer.log2p.requires_grad for layer in layers)


@pytest.mark.parametrize(("name", "value"), [("channels", 0), ("depth", -1)])
def test_refuses_sizes_that_are_not_positive(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive, got {value}"):
        SudokuNet(**{name: value})


def test_refuses_other_inputs() -> None:
    with pytest.raises(ValueError, match="`inputs` must be scalar or one-hot, got 'onehot'"):
        SudokuNet(inputs="onehot")


@pytest.mark.parametrize("variant", ["lp3", "lp", "lp2-reinit", "large-paper", "base-paper", ""])
def test_refuses_an_unknown_variant(variant: str) -> None:
    with pytest.raises(
        ValueError, match=rf"`variant` must be one of base, large, .*, lp256f-published, got '{variant}'"
    ):
        create_network(variant)
