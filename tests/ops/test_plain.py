import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from timm_lp.ops import lp_exponent, lp_mask
from timm_lp.ops.mask import lp_mask_gradients
from timm_lp.ops.plain import _tiny_and_eps

from ..covering import covering
from .reference import lp_mask_reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
DIAGONAL = [[0.7, 0.0], [0.0, 0.4]]
ROTATED = [[0.6, -0.3], [0.2, 0.45]]


def parameters(p: float, *widths: list[list[float]], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return the leaves C, one mask for each width matrix, and log2p."""
    C = torch.tensor(widths, dtype=dtype, requires_grad=True)
    return C, torch.full((len(widths),), math.log2(p), dtype=dtype, requires_grad=True)


def mask_and_gradients(mask: Callable[..., Tensor], C: Tensor, log2p: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """Return the mask and the gradients of a sum that weighs each of its pixels differently."""
    output = mask(C, log2p, size)
    pixels = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * pixels).sum(), (C, log2p))]


@covering(
    1,
    p=[1, 1.5, 2, 4, 8, 16, 256],
    kernel_size=[(3, 3), (4, 4), (1, 7), (2, 5)],
    precision={"f64": (torch.float64, 1e-11), "f32": (torch.float32, 2e-5)},
)
def test_matches_the_reference(p: float, kernel_size: tuple[int, int], precision: tuple[torch.dtype, float]) -> None:
    dtype, tolerance = precision
    C, log2p = parameters(p, DIAGONAL, ROTATED, dtype=dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in (C, log2p)]
    expected = mask_and_gradients(lp_mask_reference, *exact, kernel_size)
    for value, reference in zip(mask_and_gradients(lp_mask, C, log2p, kernel_size), expected, strict=True):
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), reference, rtol=tolerance, atol=tolerance)


def test_each_mask_has_its_own_exponent_and_width() -> None:
    C = torch.tensor([DIAGONAL, ROTATED, DIAGONAL, ROTATED], dtype=torch.float64, requires_grad=True)
    log2p = torch.tensor([0.0, 1.0, -1.0, 4.5], dtype=torch.float64, requires_grad=True)
    expected = mask_and_gradients(lp_mask_reference, C, log2p, (5, 4))
    for value, reference in zip(mask_and_gradients(lp_mask, C, log2p, (5, 4)), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("p", "corner", "edge"),
    [
        (1, math.exp(-4 / 3), math.exp(-2 / 3)),
        (2, math.exp(-8 / 9), math.exp(-4 / 9)),
        (4, math.exp(-32 / 81), math.exp(-16 / 81)),
        (256, 1.0, 1.0),
    ],
)
def test_hand_computed(p: float, corner: float, edge: float) -> None:
    C, log2p = parameters(p, [[1 / 1.5, 0.0], [0.0, 1 / 1.5]])
    expected = torch.tensor([[[[corner, edge, corner], [edge, 1.0, edge], [corner, edge, corner]]]]).double()
    torch.testing.assert_close(lp_mask(C, log2p, (3, 3)), expected, rtol=1e-7, atol=1e-7)


def test_hand_computed_off_diagonal() -> None:
    # C @ (dh, dw) = (dh + dw, 0), so the mask is 1 along the anti-diagonal and exp(-|dh + dw|) elsewhere.
    C, log2p = parameters(1, [[1.0, 1.0], [0.0, 0.0]])
    expected = [[math.exp(-abs(dh + dw)) for dw in (-0.5, 0.5)] for dh in (-1, 0, 1)]
    torch.testing.assert_close(lp_mask(C, log2p, (3, 2)), torch.tensor([[expected]]).double())


def test_p_256_is_a_box() -> None:
    C, log2p = parameters(256, [[1 / 1.5, 0.0], [0.0, 1 / 1.5]])
    box = torch.zeros(1, 1, 7, 7).double()
    box[..., 2:5, 2:5] = 1
    torch.testing.assert_close(lp_mask(C, log2p, (7, 7)), box)


@covering(2, p=[1, 1 + 2**-8, 1.5, 2, 16, 100, 256], sign=[1, -1], dtype=DTYPES)
def test_gradients_are_finite(p: float, sign: int, dtype: torch.dtype) -> None:
    scales = [0.0, 1e-7, 0.1, 0.5, 1.0, 2.0, 3e4] + ([] if dtype == torch.float16 else [1e-30, 1e-42, 1e30])
    widths = [[[scale, 0.0], [0.0, scale]] for scale in scales] + [[[scale, -scale], [scale, 0.0]] for scale in scales]
    C, _ = parameters(1, *widths, dtype=dtype)
    log2p = torch.full((len(C),), sign * math.log2(p), dtype=dtype, requires_grad=True)
    for kernel_size in [(5, 5), (4, 2), (1, 1), (13, 13)]:
        for value in mask_and_gradients(lp_mask, C, log2p, kernel_size):
            assert value.isfinite().all()


def test_zero_width_matrix_gives_ones_without_gradient() -> None:
    C, log2p = parameters(1, [[0.0, 0.0], [0.0, 0.0]])
    mask, *gradients = mask_and_gradients(lp_mask, C, log2p, (3, 3))
    assert (mask == 1).all()
    assert all(gradient.abs().max() < 1e-300 for gradient in gradients)


def test_exponent_reflects_below_zero_and_rises_at_zero() -> None:
    log2p = torch.tensor([-3.0, -1.0, 0.0, 1.0, 8.0], requires_grad=True)
    p = lp_exponent(log2p)
    (gradient,) = torch.autograd.grad(p.sum(), log2p)
    assert p.tolist() == [8.0, 2.0, 1.0, 2.0, 256.0]
    torch.testing.assert_close(gradient, math.log(2) * torch.tensor([-8.0, -2.0, 1.0, 2.0, 256.0]))


def test_gradient_at_p_1_is_not_zero() -> None:
    C, log2p = parameters(1, DIAGONAL)
    assert mask_and_gradients(lp_mask, C, log2p, (3, 3))[2].abs().min() > 0.01


@pytest.mark.parametrize(("optimizer", "lr"), [(torch.optim.SGD, 0.3), (torch.optim.Adam, 0.1)], ids=["sgd", "adam"])
def test_no_optimizer_brings_p_below_1(optimizer: type[torch.optim.Optimizer], lr: float) -> None:
    # Every pixel is nearer than 1, so a smaller p darkens the mask: one sign of the loss drives p down, the other up.
    C, log2p = parameters(2, [[1 / 1.5, 0.0], [0.0, 1 / 1.5]], dtype=torch.float32)
    seen = {1: [lp_exponent(log2p).item()], -1: []}
    for sign, steps in ((1, 100), (-1, 200)):
        steps_of = optimizer([log2p], lr=lr)
        for _ in range(steps):
            steps_of.zero_grad()
            (sign * lp_mask(C, log2p, (3, 3)).sum()).backward()
            assert log2p.grad is not None
            assert log2p.grad.isfinite().all()
            assert (log2p.grad != 0).all()
            steps_of.step()
            seen[sign].append(lp_exponent(log2p).item())
    assert min(seen[1] + seen[-1]) >= 1
    assert min(seen[1]) < 1.1
    assert seen[-1][-1] > 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_parameters_give_a_float32_mask(dtype: torch.dtype) -> None:
    C, log2p = (tensor.detach() for tensor in parameters(3, DIAGONAL, ROTATED, dtype=dtype))
    mask = lp_mask(C, log2p, (5, 5))
    assert mask.dtype == lp_exponent(log2p).dtype == torch.float32
    assert torch.equal(mask, lp_mask(C.float(), log2p.float(), (5, 5)))


def test_autocast_does_not_touch_the_mask() -> None:
    C, log2p = parameters(3, DIAGONAL, ROTATED, dtype=torch.float32)
    expected = mask_and_gradients(lp_mask, C, log2p, (5, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = mask_and_gradients(lp_mask, C, log2p, (5, 5))
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, reference)


@covering(1, p=[1.25, 2, 5], kernel_size=[(3, 3), (2, 4)])
def test_gradcheck_and_gradgradcheck(p: float, kernel_size: tuple[int, int]) -> None:
    C, log2p = parameters(p, ROTATED)
    assert torch.autograd.gradcheck(lambda *args: lp_mask(*args, kernel_size), (C, log2p))
    assert torch.autograd.gradgradcheck(lambda *args: lp_mask(*args, kernel_size), (C, log2p))


def test_vmap_over_masks_and_over_their_gradients() -> None:
    C, log2p = (tensor.detach() for tensor in parameters(3, DIAGONAL, ROTATED))
    Cs, log2ps = torch.stack([C, 2 * C, 0 * C]), torch.stack([log2p, -2 * log2p, 0 * log2p])

    def mask(C: Tensor, log2p: Tensor) -> Tensor:
        return lp_mask(C, log2p, (3, 4))

    def gradient(C: Tensor, log2p: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.grad(lambda *args: mask(*args).square().sum(), argnums=(0, 1))(C, log2p)

    torch.testing.assert_close(torch.func.vmap(mask)(Cs, log2ps), torch.stack([*map(mask, Cs, log2ps)]))
    for batched, single in zip(
        torch.func.vmap(gradient)(Cs, log2ps), zip(*map(gradient, Cs, log2ps), strict=True), strict=True
    ):
        torch.testing.assert_close(batched, torch.stack(single))


# The projections of the last two are exactly 0 along a diagonal, and everywhere.
@covering(
    2,
    p=[1, 1.5, 2, 16, 256],
    sign=[1, -1],
    kernel_size=[(3, 3), (4, 2), (5, 2), (1, 7)],
    widths={"diag": DIAGONAL, "rot": ROTATED, "line": [[0.5, 0.5], [0.0, -0.3]], "0": [[0.0, 0.0], [0.0, 0.0]]},
)
def test_closed_form_gradients(p: float, sign: int, kernel_size: tuple[int, int], widths: list[list[float]]) -> None:
    C, log2p = parameters(p, widths, [[1.5, 0.1], [-0.2, 0.9]])
    log2p = (sign * log2p.detach()).requires_grad_()
    pixels = torch.linspace(0.5, 1.5, 2 * math.prod(kernel_size), dtype=torch.float64).view(2, 1, *kernel_size)
    values = lp_mask_gradients(pixels, lp_mask(C, log2p, kernel_size).detach(), C, log2p)
    for mask in (lp_mask, lp_mask_reference):
        expected = mask_and_gradients(mask, C, log2p, kernel_size)[1:]
        for value, reference in zip(values, expected, strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-11, atol=1e-12)


def test_closed_form_gradients_of_a_single_tap_are_0() -> None:
    C, log2p = parameters(1.5, ROTATED, [[0.0, 0.0], [0.0, 0.0]])
    mask = lp_mask(C, log2p, (1, 1)).detach()
    for value, shape in zip(lp_mask_gradients(torch.ones_like(mask), mask, C, log2p), [(2, 2, 2), (2,)], strict=True):
        assert value.shape == shape
        assert value.abs().max() < 1e-300


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_closed_form_gradients_have_the_dtypes_of_the_parameters(dtype: torch.dtype) -> None:
    C, log2p = parameters(3, DIAGONAL, ROTATED, dtype=dtype)
    mask = lp_mask(C, log2p, (5, 4)).detach()
    values = lp_mask_gradients(torch.linspace(0.5, 1.5, 40, dtype=mask.dtype).view_as(mask), mask, C, log2p)
    expected = mask_and_gradients(lp_mask, C, log2p, (5, 4))[1:]
    for value, reference in zip(values, expected, strict=True):
        assert value.dtype == dtype
        assert not value.requires_grad
        torch.testing.assert_close(value, reference)


@covering(1, p=[1, 1 + 2**-8, 2, 16, 256], dtype=DTYPES)
def test_closed_form_gradients_are_finite(p: float, dtype: torch.dtype) -> None:
    scales = [0.0, 1e-7, 0.5, 1.0, 2.0, 3e4] + ([] if dtype == torch.float16 else [1e-30, 1e-42, 1e30])
    C, log2p = parameters(p, *([[scale, -scale], [scale, 0.0]] for scale in scales), dtype=dtype)
    mask = lp_mask(C, log2p, (5, 4)).detach()
    assert all(value.isfinite().all() for value in lp_mask_gradients(torch.ones_like(mask), mask, C, log2p))


@pytest.mark.parametrize(("dtype", "last"), [(torch.float32, 27), (torch.float64, 47)], ids=["f32", "f64"])
def test_what_is_far_below_the_rounding_step_is_0(dtype: torch.dtype, last: int) -> None:
    C, log2p = parameters(1, [[1.0, 0.0], [0.0, 1.0]], dtype=dtype)
    distance = torch.arange(-last - 3, last + 4, dtype=dtype)
    mask = lp_mask(C, log2p, (1, len(distance)))
    kept = torch.exp(-distance.abs()) >= torch.finfo(dtype).eps / 2**17
    assert kept.sum() == 2 * last + 1
    assert torch.equal(mask[0, 0, 0] != 0, kept)
    torch.testing.assert_close(mask[0, 0, 0, kept], torch.exp(-distance.abs())[kept])
    for value in torch.autograd.grad(mask[0, 0, 0, ~kept].sum(), (C, log2p)):
        assert not value.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_limits_are_those_of_torch(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    assert _tiny_and_eps(dtype) == (limits.tiny, limits.eps)
