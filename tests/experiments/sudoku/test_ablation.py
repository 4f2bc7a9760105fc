import numpy as np
import pytest
import torch

from timm_lp.experiments.sudoku import generate_puzzles
from timm_lp.experiments.sudoku.ablation import (
    Ablation,
    ablated,
    ablations,
    gamma_threshold,
    layer_ranges,
    measure_ablations,
    oriented,
)
from timm_lp.models.sudoku import SudokuNet, create_network

NAN = float("nan")
GAMMAS = [np.array([1.0, 4.0, 5.0, 2.0, 9.0]), np.array([3.5, 3.0, 6.0]), np.array([1.5, 8.0])]
THETAS = [np.array([NAN, 88.0, 3.0, 90.0, 177.0]), np.array([91.0, 90.0, 45.0]), np.array([90.0, 100.0])]


def _network(variant: str = "lp2") -> tuple[SudokuNet, torch.Tensor]:
    torch.manual_seed(0)
    network = create_network(variant, channels=6, depth=3, inputs="one-hot").double().eval()
    return network, torch.from_numpy(generate_puzzles(2, seed=0).puzzles)


def _chosen(network: SudokuNet, *places: tuple[int, int]) -> list[np.ndarray]:
    channels = [np.zeros(conv.out_channels, dtype=bool) for conv in network.convs]
    for layer, channel in places:
        channels[layer][channel] = True
    return channels


@pytest.mark.parametrize("variant", ["lp2", "lp16-paper", "large"])
@torch.no_grad()
def test_without_all_its_channels_a_layer_has_a_zero_kernel(variant: str) -> None:
    network, puzzles = _network(variant)
    for layer, conv in enumerate(network.convs):
        whole = network(puzzles)
        with ablated(network.convs, _chosen(network, *((layer, channel) for channel in range(6)))):
            found = network(puzzles)
            kernel = conv.masked_weight() if variant.startswith("lp") else conv.weight
            assert not kernel.any()
        assert torch.equal(network(puzzles), whole)
        norm = network.blocks[layer].norm
        constant = norm(conv.bias[None, :, None, None].expand(2, -1, 9, 9)).relu()
        expected = network.head(network.blocks[layer + 1 :](constant))
        torch.testing.assert_close(found, expected)
        assert (found - whole).abs().max() > 1e-6


@torch.no_grad()
def test_an_ablated_channel_gives_its_bias_and_norm_and_the_others_what_they_gave() -> None:
    network, puzzles = _network()
    first = network.blocks[0]
    planes = network._encode(puzzles)
    whole = first(planes)
    with ablated(network.convs, _chosen(network, (0, 2), (0, 5), (1, 0))):
        found = first(planes)
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(found[:, kept], whole[:, kept])
    for channel in (2, 5):
        bias = first.conv.bias[channel]
        value = bias / (1 + first.norm.eps) ** 0.5  # a new norm
        torch.testing.assert_close(found[:, channel], value.clamp(min=0).expand(2, 9, 9))


def test_an_error_leaves_the_network_as_it_was() -> None:
    network, _ = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def fail() -> None:
        with ablated(network.convs, _chosen(network, (0, 0), (2, 1))):
            assert not network.convs[2].weight[1].any()
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_refuses_channels_of_another_network() -> None:
    network, _ = _network()
    with (
        pytest.raises(ValueError, match=r"`channels` must fit the layers' \[6, 6, 6\] channels, got \[5, 3, 2\]"),
        ablated(network.convs, [gamma > 0 for gamma in GAMMAS]),
    ):
        pass


def test_the_threshold_is_the_papers_where_a_mask_is_above_it() -> None:
    assert gamma_threshold(GAMMAS) == 3
    assert gamma_threshold(GAMMAS, min_gamma=8.9) == 8.9


@pytest.mark.parametrize(("total", "largest"), [(200, 10), (10, 1), (21, 2)])
def test_the_threshold_else_leaves_the_largest_few(total: int, largest: int) -> None:
    gammas = 1 + np.random.default_rng(0).permutation(total) / total
    threshold = gamma_threshold([gammas[: total // 2], gammas[total // 2 :]])
    assert threshold < 3
    assert (gammas > threshold).sum() == largest
    assert gammas[gammas > threshold].min() > gammas[gammas <= threshold].max()


@pytest.mark.parametrize("gammas", [[np.ones(7), np.ones(3)], [np.ones(1)]])
def test_round_masks_are_never_oriented(gammas: list[np.ndarray]) -> None:
    threshold = gamma_threshold(gammas)
    chosen = oriented(gammas, [np.full(len(gamma), 90.0) for gamma in gammas], threshold, 90, 90)
    assert not np.concatenate(chosen).any()


@pytest.mark.parametrize(
    ("angle", "half_width", "expected"),
    [
        (90, 0, []),
        (90, 1, [(1, 0)]),
        (90, 2, [(0, 1), (1, 0)]),
        (90, 10, [(0, 1), (1, 0), (2, 1)]),
        (90, 45, [(0, 1), (1, 0), (1, 2), (2, 1)]),
        (0, 3, [(0, 2), (0, 4)]),
        (0, 2, []),
        (0, 45, [(0, 2), (0, 4), (1, 2)]),
        (0, 90, [(0, 1), (0, 2), (0, 4), (1, 0), (1, 2), (2, 1)]),
    ],
)
def test_the_window_is_around_the_angle(angle: float, half_width: float, expected: list[tuple[int, int]]) -> None:
    chosen = oriented(GAMMAS, THETAS, 3.0, angle, half_width)
    assert [(layer, int(c)) for layer, channels in enumerate(chosen) for c in np.flatnonzero(channels)] == expected


def test_the_layers_are_all_and_two_halves() -> None:
    assert layer_ranges(10) == [(1, 10), (1, 5), (6, 10)]
    assert layer_ranges(3) == [(1, 3), (1, 1), (2, 3)]
    assert layer_ranges(1) == [(1, 1)]


def test_each_ablation_has_its_window_and_controls() -> None:
    found = [*ablations(GAMMAS, THETAS, threshold=3.0, half_widths=(1, 10, 45), draws=4, seed=0)]
    assert len(found) == 3 * 3 * (2 + 4)
    for first, last in ((1, 3), (1, 1), (2, 3)):
        inside = [first <= layer <= last for layer in (1, 2, 3)]
        before = {draw: [np.zeros(len(gamma), dtype=bool) for gamma in GAMMAS] for draw in range(4)}
        for half_width in (1, 10, 45):
            same = [a for a in found if a.layers == (first, last) and a.half_width == half_width]
            near_90, near_0, *random = same
            assert [a.kind for a in same] == ["near 90", "near 0", *["random"] * 4]
            assert [a.draw for a in same] == [None, None, 0, 1, 2, 3]
            for ablation, angle in ((near_90, 90), (near_0, 0)):
                everywhere = oriented(GAMMAS, THETAS, 3.0, angle, half_width)
                for chosen, all_chosen, is_inside in zip(ablation.channels, everywhere, inside, strict=True):
                    assert (chosen == (all_chosen & is_inside)).all()
            for ablation in random:
                assert [c.sum() for c in ablation.channels] == [c.sum() for c in near_90.channels]
                for chosen, narrower in zip(ablation.channels, before[ablation.draw], strict=True):
                    assert (chosen | ~narrower).all()
                before[ablation.draw] = ablation.channels


def test_random_channels_follow_from_the_seed() -> None:
    gammas, thetas = [np.full(100, 4.0)], [np.where(np.arange(100) < 30, 90.0, 0.0)]
    draws = {
        seed: [
            a.channels[0] for a in ablations(gammas, thetas, threshold=3.0, draws=2, seed=seed) if a.draw is not None
        ]
        for seed in (0, 1)
    }
    again = [a.channels[0] for a in ablations(gammas, thetas, threshold=3.0, draws=2, seed=0) if a.draw is not None]
    assert all((one == other).all() for one, other in zip(draws[0], again, strict=True))
    assert len({channels.tobytes() for seed in draws for channels in draws[seed]}) == 4
    assert all(channels.sum() == 30 for channels in again)


def test_measures_the_network_without_the_channels_once_for_each_set() -> None:
    network, puzzles = _network()
    calls = []

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        calls.append([conv.weight.abs().amax(dim=(1, 2, 3)) == 0 for conv in network.convs])
        return {"row": float(network(puzzles).mean())}

    nothing, some = _chosen(network), _chosen(network, (0, 1), (2, 3))
    chosen = [
        Ablation((1, 3), "near 90", 0, None, nothing),
        Ablation((1, 3), "near 90", 15, None, some),
        Ablation((1, 3), "random", 15, 2, some),
    ]
    rows = [*measure_ablations(network.convs, chosen, evaluate)]
    assert [[layer.numpy().tolist() for layer in call] for call in calls] == [
        [channels.tolist() for channels in ablation] for ablation in (nothing, some)
    ]
    common = {"layers": "1-3", "half_width": 15, "channels": 2}
    assert rows[1] == {**common, "ablated": "near 90", "draw": None, "row": rows[2]["row"]}
    assert rows[2] == {**common, "ablated": "random", "draw": 2, "row": rows[1]["row"]}
    assert rows[0]["channels"] == 0
    assert rows[0]["row"] == evaluate()["row"]
    assert rows[0]["row"] != rows[1]["row"]
