"""A layer's mask on the CPU: kept while its parameters stay the same, with gradients in closed form."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .plain import LpNorm, lp_norm, mask_of, offsets_of
from .reach import Reach, reach_of

_NORM_BYTES = 2**17  # up to here Python takes longer than the operations; a larger norm costs more memory than time


class Mask(NamedTuple):
    """A mask and what follows from its values.

    Attributes:
        values: The mask, shape `(O, 1, Kh, Kw)`.
        reach: The taps where the mask is not 0.
        all_ones: Whether the mask is 1 at every tap of `reach.inner`, so that no product is needed there.
        norm: The norm that it was made from, for its gradient; None if it takes much memory.
        outlier_channels: Channels that reach further than the others, shape `(reach.num_outliers,)`; None if there are
            none.
    """

    values: Tensor
    reach: Reach
    all_ones: bool
    norm: LpNorm | None
    outlier_channels: Tensor | None


class MaskCache:
    """Keeps the last mask for as long as `C` and `log2p` hold the same numbers.

    It compares the numbers themselves. A version counter would miss what is written through `.data`.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Mask] | None = None

    def get(self, C: Tensor, log2p: Tensor, kernel_size: tuple[int, int]) -> Mask:
        """Return the mask of `lp_mask`, without a graph."""
        last = self._last  # read once: other threads may replace it
        if last is not None and self._is_current(last, C, log2p, kernel_size):
            return last[2]
        C, log2p = C.detach().clone(), log2p.detach().clone()  # first: another thread may load others meanwhile
        mask = _make_mask(C, log2p, kernel_size)
        self._last = (C, log2p, mask)
        return mask

    @staticmethod
    def _is_current(last: tuple[Tensor, Tensor, Mask], C: Tensor, log2p: Tensor, kernel_size: tuple[int, int]) -> bool:
        last_C, last_log2p, mask = last
        return (
            mask.values.shape[2:] == kernel_size
            and last_C.dtype == C.dtype
            and (torch.is_inference_mode_enabled() or not mask.values.is_inference())
            and torch.equal(last_C, C)
            and torch.equal(last_log2p, log2p)
        )


@torch.no_grad()
def _make_mask(C: Tensor, log2p: Tensor, kernel_size: tuple[int, int]) -> Mask:
    norm = lp_norm(C, log2p, kernel_size, _offsets(kernel_size, torch.promote_types(C.dtype, torch.float32)))
    values = mask_of(norm, kernel_size)
    reach, outlier_channels = reach_of(values)
    inner = reach.inner
    # Most masks are below 1 in a corner, which takes less time to see.
    all_ones = values[0, 0, inner.top, inner.left].item() == 1 and inner.crop(values).amin().item() == 1
    kept = norm if norm.power.nbytes <= _NORM_BYTES else None
    return Mask(values, reach, all_ones, kept, outlier_channels)


@torch.no_grad()
def lp_mask_gradients(
    grad_mask: Tensor, mask: Tensor, C: Tensor, log2p: Tensor, norm: LpNorm | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `lp_mask` in closed form.

    With `z = C d`: the mask's derivative is `-mask * p * |z_i| ** p / z_i * d_j` in `C[i, j]`, 0 where `z_i` is 0, and
    `-mask * sum_i |z_i| ** p * ln|z_i| * p * ln(2)` in `|log2p|`. Offsets `d` and `-d` have equal derivatives.

    Args:
        grad_mask: Gradient of the loss in the mask, shape `(O, 1, Kh, Kw)`.
        mask: The mask, of the same shape.
        C: As `lp_mask` took it.
        log2p: As `lp_mask` took it.
        norm: Their Lp norm, None to compute it again.

    Returns:
        Gradients in `C`, shape `(O, 2, 2)`, and in `log2p`, shape `(O,)`, in their dtypes.
    """
    norm = norm or lp_norm(C, log2p, (mask.shape[2], mask.shape[3]))
    grad_norm = (grad_mask * mask).flatten(1).neg_()
    half = norm.power.shape[2]
    mirrored = grad_norm.shape[1] - half  # taps
    grad_norm[:, :mirrored].add_(grad_norm[:, half:].flip(1))
    grad_power = norm.power * grad_norm[:, None, :half]
    grad_p = (grad_power * norm.log2_distance).sum(dim=(1, 2))
    p = norm.p.flatten()
    grad_log2p = (grad_p * torch.where(log2p < 0, -p, p)).mul_(math.log(2) ** 2)
    grad_distance = grad_power.mul_(norm.projection)
    grad_distance /= norm.projection.square().clamp_min_(torch.finfo(p.dtype).tiny)
    grad_C = (grad_distance.unsqueeze(2) * norm.offsets).sum(dim=3).mul_(norm.p)
    return grad_C.to(C.dtype), grad_log2p.to(log2p.dtype)


@lru_cache(maxsize=64)
def _offsets(kernel_size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return offsets_of(kernel_size, dtype, torch.device("cpu"))
