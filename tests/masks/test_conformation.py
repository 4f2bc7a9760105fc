import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from timm_lp import lp_mask
from timm_lp.masks import conformation, conformation_matrix
from timm_lp.masks._conformation import kernel_rms_radius, left_angle, rms_radius

KERNEL = (31, 31)


def _random_triples(count: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    alpha, gamma, theta = torch.rand(3, count, dtype=torch.float64, generator=generator)
    return 0.3 + 10 * alpha, 1.01 + 20 * gamma**4, 180 * theta


def _random_matrices(count: int) -> Tensor:
    return torch.randn(count, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _rotation(degrees: Tensor) -> Tensor:
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def _mask(C: Tensor, p: float, kernel_size: tuple[int, int] = KERNEL) -> Tensor:
    """Return masks by the formula, one tap after another, in float64."""
    height, width = kernel_size
    mask = torch.empty(len(C), 1, height, width, dtype=torch.float64)
    for h in range(height):
        for w in range(width):
            offset = torch.tensor([h - (height - 1) / 2, w - (width - 1) / 2], dtype=torch.float64)
            mask[:, 0, h, w] = torch.exp(-((C @ offset).abs() ** p).sum(dim=1))
    return mask


def _spread(values: Tensor) -> tuple[float, float]:
    """Return the mean squares of the offsets along height and width, in pixels, of one mask."""
    rows, columns = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in values.shape[-2:])
    weights = values.flatten(0, -3)[0] / values.sum()
    return (weights * rows[:, None] ** 2).sum().item(), (weights * columns**2).sum().item()


def _angle_between(a: Tensor, b: Tensor, period: float) -> Tensor:
    return ((a - b + period / 2) % period - period / 2).abs()


def test_from_the_numbers_to_a_matrix_and_back() -> None:
    triples = _random_triples(1000)
    found = conformation(conformation_matrix(*triples))
    assert all(values.dtype == torch.float64 and values.shape == (1000,) for values in found)
    torch.testing.assert_close(found.alpha, triples[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(found.gamma, triples[1], rtol=1e-12, atol=0)
    assert _angle_between(found.theta, triples[2], 180).max() < 1e-10
    assert ((found.theta >= 0) & (found.theta < 180)).all()


def test_left_singular_vectors_change_neither_scale_nor_distortion_nor_rotation() -> None:
    triples = _random_triples(200)
    turned = _rotation(torch.linspace(0, 360, 200, dtype=torch.float64)) @ conformation_matrix(*triples)
    mirrored = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64) @ turned
    for C in (turned, mirrored):
        found = conformation(C)
        torch.testing.assert_close(found.alpha, triples[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(found.gamma, triples[1], rtol=1e-12, atol=0)
        assert _angle_between(found.theta, triples[2], 180).max() < 1e-10


def test_agrees_with_the_covariance_of_the_density() -> None:
    C = _random_matrices(50)  # half of them with a negative determinant
    assert 10 < (torch.linalg.det(C) < 0).sum() < 40
    found = conformation(C)
    for index, matrix in enumerate(C.numpy()):
        variances, axes = np.linalg.eigh(np.linalg.inv(matrix.T @ matrix))
        assert found.alpha[index].item() == pytest.approx(math.sqrt(variances.sum()), rel=1e-9)
        assert found.gamma[index].item() == pytest.approx(math.sqrt(variances[1] / variances[0]), rel=1e-9)
        height, width = axes[:, 1]
        expected = torch.tensor(math.degrees(math.atan2(-height, width)), dtype=torch.float64)
        assert _angle_between(found.theta[index], expected, 180) < 1e-6


def test_in_float32_and_from_a_parameter() -> None:
    C = torch.nn.Parameter(_random_matrices(5).float())
    found = conformation(C)
    assert not any(values.requires_grad for values in found)
    for values, expected in zip(found, conformation(C.detach().double()), strict=True):
        assert torch.equal(values, expected)


@pytest.mark.parametrize("p", [1.5, 2.0, 16.0])
@pytest.mark.parametrize(
    ("theta", "along"),
    [(0.0, "width"), (90.0, "height"), (45.0, "upper right"), (135.0, "upper left")],
)
def test_a_mask_is_long_in_the_direction_that_theta_says(theta: float, along: str, p: float) -> None:
    C = conformation_matrix(6.0, 3.0, theta)
    mask = lp_mask(C, torch.tensor([math.log2(p)], dtype=torch.float64), KERNEL)
    torch.testing.assert_close(mask, _mask(C, p), rtol=1e-9, atol=1e-9)
    height, width = _spread(mask)
    upper_right, upper_left = mask[0, 0, 12, 18].item(), mask[0, 0, 12, 12].item()  # row 0 is drawn at the top
    if along == "width":
        assert width > 4 * height
    elif along == "height":
        assert height > 4 * width
    else:
        assert height == pytest.approx(width)
        assert (upper_right > 2 * upper_left) == (along == "upper right")
        assert (upper_left > 2 * upper_right) == (along == "upper left")


@pytest.mark.parametrize(("direction", "theta"), [((0.0, 1.0), 0.0), ((1.0, 0.0), 90.0), ((1.0, -1.0), 45.0)])
def test_the_direction_of_a_matrix_written_by_hand(direction: tuple[float, float], theta: float) -> None:
    across = torch.tensor([[-direction[1], direction[0]]], dtype=torch.float64)
    C = torch.stack([across[0], 0.2 * torch.tensor(direction, dtype=torch.float64)])[None]
    found = conformation(C)
    assert found.theta.item() == pytest.approx(theta, abs=1e-9)
    assert found.gamma.item() == pytest.approx(5)
    length = math.hypot(*direction)
    assert found.alpha.item() == pytest.approx(math.hypot(1, 5) / length)


@pytest.mark.parametrize("theta", [0.0, 30.0, 90.0, 150.0])
def test_angles_just_below_zero_are_not_180(theta: float) -> None:
    tiny = torch.tensor([-1e-15, 0.0, 1e-15], dtype=torch.float64)
    found = conformation(conformation_matrix(2.0, 2.0, theta + tiny)).theta
    assert ((found >= 0) & (found < 180)).all()
    assert (_angle_between(found, torch.tensor(theta), 180) < 1e-9).all()
    turned = _rotation(-tiny) @ conformation_matrix(2.0, 2.0, theta)
    assert ((left_angle(turned) >= 0) & (left_angle(turned) < 90)).all()


def test_round_masks_have_no_direction() -> None:
    almost = torch.diag(torch.tensor([1.0, 1.0005]))
    C = torch.stack([torch.eye(2) / 3, torch.tensor([[0.0, -0.5], [0.5, 0.0]]), almost])
    found = conformation(C)
    torch.testing.assert_close(found.alpha[:2], torch.tensor([3 * math.sqrt(2), 2 * math.sqrt(2)]).double())
    assert (found.gamma < 1.001).all()
    assert found.theta.isnan().all()
    torch.testing.assert_close(conformation(conformation_matrix(*found)), found, equal_nan=True)


def test_singular_masks() -> None:
    C = torch.zeros(3, 2, 2)
    C[1, 0, 0] = 2.0  # a horizontal band
    C[2] = torch.tensor([[1.0, -1.0], [3.0, -3.0]]) / 7  # from the upper left to the lower right
    found = conformation(C)
    assert found.alpha.isinf().all()
    assert found.gamma.tolist() == [1.0, math.inf, math.inf]
    assert found.theta[0].isnan()
    assert found.theta[1:].tolist() == pytest.approx([0.0, 135.0])
    assert not left_angle(C).isnan().any()


@pytest.mark.parametrize("p", [1.0, 2.0, 8.0])
def test_only_at_p_2_the_left_singular_vectors_do_not_change_the_mask(p: float) -> None:
    C = conformation_matrix(4.0, torch.tensor([1.0, 2.0, 5.0]), 20.0)
    mask = _mask(C, p)
    turned = _mask(_rotation(torch.tensor(30.0, dtype=torch.float64)) @ C, p)
    assert ((mask - turned).abs().amax(dim=(1, 2, 3)) < 1e-12).all() == (p == 2)
    quarter = _mask(_rotation(torch.tensor(90.0, dtype=torch.float64)) @ C, p)
    torch.testing.assert_close(quarter, mask, rtol=1e-9, atol=1e-12)


def test_angle_of_the_left_singular_vectors() -> None:
    angles = torch.linspace(1, 89, 23, dtype=torch.float64)
    alpha, gamma, theta = _random_triples(23)
    C = _rotation(angles) @ conformation_matrix(alpha, gamma, theta)
    for same in (C, C.flip(1), C * torch.tensor([[1.0], [-1.0]]), -C):  # rows in another order, or with other signs
        torch.testing.assert_close(left_angle(same), angles, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(left_angle(_rotation(angles) / 3), angles, rtol=1e-9, atol=1e-9)


def test_box_and_diamond() -> None:
    box, diamond = (_rotation(torch.tensor(turn, dtype=torch.float64)) @ torch.eye(2).double() / 4 for turn in (0, 45))
    for C, angle, in_corner in ((box, 0, True), (diamond, 45, False)):
        assert left_angle(C[None]).item() == pytest.approx(angle)
        assert (_mask(C[None], 64.0)[0, 0, 15 - 3, 15 + 3].item() > 0.99) == in_corner


@pytest.mark.parametrize("p", [1.0, 1.7, 4.0, 256.0])
def test_radius_is_that_of_the_density(p: float) -> None:
    C = _rotation(torch.tensor([25.0], dtype=torch.float64)) @ conformation_matrix(15.0, 1.5, 40.0)
    radius = rms_radius(conformation(C).alpha, torch.tensor([p]))
    size = 501
    axis = np.arange(size) - (size - 1) / 2
    projections = np.einsum("ij,jhw->ihw", C[0].numpy(), np.stack(np.meshgrid(axis, axis, indexing="ij")))
    with np.errstate(over="ignore"):
        density = np.exp(-(np.abs(projections) ** p).sum(axis=0))
    expected = math.sqrt((density * (axis[:, None] ** 2 + axis**2)).sum() / density.sum())
    assert radius.item() == pytest.approx(expected, rel=0.01)


def test_radius_for_known_p() -> None:
    radius = rms_radius(torch.tensor(3.0), torch.tensor([1.0, 2.0, 1e6]))
    torch.testing.assert_close(radius, 3 * torch.tensor([2, 0.5, 1 / 3]).double().sqrt(), rtol=1e-5, atol=0)


def test_radius_in_the_kernel() -> None:
    mask = torch.zeros(3, 1, 3, 5)
    mask[0] = 1
    mask[1, 0, 1, 2] = 1
    mask[2, 0, 0, 0] = mask[2, 0, 2, 4] = 0.25
    expected = [math.sqrt((10 * 1 + 6 * 1 + 6 * 4) / 15), 0.0, math.sqrt(5)]
    assert kernel_rms_radius(mask).tolist() == pytest.approx(expected)
    assert kernel_rms_radius(torch.ones(1, 1, 2, 2)).item() == pytest.approx(math.sqrt(0.5))
    assert kernel_rms_radius(torch.zeros(1, 1, 3, 3)).isnan().all()


def test_the_kernel_cuts_wide_masks_and_leaves_narrow_ones() -> None:
    C = conformation_matrix(torch.tensor([3.0, 1000.0]), 1.2, 70.0)
    radius = kernel_rms_radius(_mask(C, 2.0))
    whole = rms_radius(conformation(C).alpha, torch.tensor([2.0, 2.0]))
    assert radius[0].item() == pytest.approx(whole[0].item(), rel=1e-6)
    assert radius[1].item() == pytest.approx(kernel_rms_radius(torch.ones(1, 1, *KERNEL)).item(), rel=0.01)
    assert radius[1] < 0.05 * whole[1]


@pytest.mark.parametrize("function", [conformation, left_angle])
def test_bad_matrices(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=r"`C` must be of shape \(O, 2, 2\), got \(2, 2\)\. An LpConv2d has such"):
        function(torch.eye(2))
    with pytest.raises(ValueError, match=r"`C` must be of shape \(O, 2, 2\), got \(4, 2, 3\)"):
        function(torch.zeros(4, 2, 3))
    C = torch.eye(2).repeat(3, 1, 1)
    C[2, 1, 0] = math.nan
    with pytest.raises(ValueError, match=r"`C` must be finite, got \[\[1.0, 0.0\], \[nan, 1.0\]\] for mask 2\. Did"):
        function(C)


@pytest.mark.parametrize(
    "numbers",
    [
        (2, np.float64(3.3), [20.7]),
        (np.array([2.1]), [3.3], 20.7),
        (torch.tensor([2.1], dtype=torch.float64, requires_grad=True), 3, np.float64(20.7)),
    ],
    ids=["an integer", "an array", "a parameter"],
)
def test_numbers_of_any_kind_are_taken_in_float64(numbers: tuple[Any, Any, Any]) -> None:
    values = (value.tolist() if isinstance(value, Tensor) else value for value in numbers)
    alpha, gamma, theta = (float(np.ravel(value)[0]) for value in values)
    largest = math.sqrt(1 + gamma**2) / alpha
    cos, sin = math.cos(math.radians(theta)), math.sin(math.radians(theta))
    expected = [[largest * cos, largest * sin], [-largest / gamma * sin, largest / gamma * cos]]
    C = conformation_matrix(*numbers)
    assert C.dtype == torch.float64
    assert not C.requires_grad
    np.testing.assert_allclose(C[0].numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("alpha", "gamma", "theta", "message"),
    [
        (0.0, 1.0, 0.0, r"`alpha` must be positive and finite, got 0\. No matrix"),
        (math.inf, 1.0, 0.0, r"`alpha` must be positive and finite, got inf\."),
        (torch.tensor([1.0, -2.0]), 1.0, 0.0, r"`alpha` must be positive and finite, got -2\."),
        (1.0, 0.5, 0.0, r"`gamma` must be finite and at least 1, got 0\.5\. Add 90"),
        (1.0, math.inf, 0.0, r"`gamma` must be finite and at least 1, got inf\."),
        (1.0, 2.0, math.nan, r"`theta` must be finite where gamma is at least 1\.001, got nan\. Give degrees"),
        (1.0, 1.0, math.inf, r"`theta` must be finite where gamma is at least 1\.001, got inf\."),
    ],
)
def test_bad_numbers(alpha: Tensor | float, gamma: float, theta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conformation_matrix(alpha, gamma, theta)
