"""What a layer keeps from one call to the next: its last mask, and in evaluation its last masked kernel."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .lp_mask import LpNorm, lp_norm, offsets_of
from .masked_kernel import Block
from .reach import Reach, reach_of
from .torch_internals import version_of

_NORM_BYTES = 2**17  # where operations on it start to take longer than Python


class Mask(NamedTuple):
    """A mask and what follows from its values.

    Attributes:
        values: The mask, shape `(O, 1, Kh, Kw)`.
        reach: The taps where the mask is not 0.
        outlier_channels: Channels that reach further than the others, shape `(reach.num_outliers,)`; None if there are
            none.
        all_ones: Whether the mask is 1 at every tap of `reach.inner`, so that no product is needed there.
        norm: The norm that it was made from, for its gradient; None if it takes much memory.
    """

    values: Tensor
    reach: Reach
    outlier_channels: Tensor | None
    all_ones: bool
    norm: LpNorm | None


class MaskCache:
    """Keeps the last mask for as long as `C` and `log2p` hold the same numbers.

    It compares the numbers themselves. A version counter would miss what is written through `.data`.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Mask] | None = None

    def get(self, C: Tensor, log2p: Tensor, kernel_size: tuple[int, ...]) -> Mask:
        """Return the mask of `lp_mask`, without a graph."""
        last = self._last  # read once: other threads may replace it
        if last is not None and self._is_current(last, C, log2p, kernel_size):
            return last[2]
        C, log2p = C.detach(), log2p.detach()
        offsets = _offsets(kernel_size, torch.promote_types(C.dtype, torch.float32))
        norm = lp_norm(C, log2p, kernel_size, offsets)
        values = norm.mask(kernel_size)
        reach, outlier_channels = reach_of(values)
        kept = norm if norm.power.nbytes <= _NORM_BYTES else None
        inner = reach.inner
        # Most masks are below 1 in a corner, which takes less time to see.
        all_ones = values[0, 0, inner.top, inner.left].item() == 1 and inner.crop(values).amin().item() == 1
        mask = Mask(values, reach, outlier_channels, all_ones, kept)
        self._last = (C.clone(), log2p.clone(), mask)
        return mask

    @staticmethod
    def _is_current(last: tuple[Tensor, Tensor, Mask], C: Tensor, log2p: Tensor, kernel_size: tuple[int, ...]) -> bool:
        last_C, last_log2p, mask = last
        return (
            mask.values.shape[2:] == kernel_size
            and last_C.dtype == C.dtype
            and (torch.is_inference_mode_enabled() or not mask.values.is_inference())
            and torch.equal(last_C, C)
            and torch.equal(last_log2p, log2p)
        )


class _Source(NamedTuple):
    """What a masked kernel was made from.

    Attributes:
        weight: The weight. Keeping it keeps its memory from being used for another.
        version: The weight's version, which every change but those behind autograd's back moves.
        fingerprint: The weight's products with random numbers, shape `(O,)`, which those changes move too, unless they
            are lost in rounding.
        mask: The mask. It is another tensor whenever its parameters have changed.
        layout: How the kernel was cropped, cut into blocks, and laid out in memory.
    """

    weight: Tensor
    version: int
    fingerprint: Tensor
    mask: Tensor
    layout: tuple[object, ...]

    def equals(self, other: "_Source") -> bool:
        return (
            self.mask is other.mask
            and self.layout == other.layout
            and self.weight.data_ptr() == other.weight.data_ptr()
            and self.version == other.version
            and torch.equal(self.fingerprint, other.fingerprint)
        )


class KernelCache:
    """Keeps a masked kernel from the second time that it is asked for, so that a changing weight costs no memory.

    It sees every change that autograd counts, whatever its size: in-place operations (under `torch.no_grad` too),
    optimizer steps, `load_state_dict`, another parameter. It sees a change that autograd does not count, through
    `.data` or NumPy, by one random sum over the kernel of each output channel, and misses it if rounding hides it
    there. In float32 and for a single number, that happens to 1 in 100 changes by 1e-4 of the channel's largest
    number, to most by 1e-6, and to none by 1e-3 of those that were tried. Change such kernels under `torch.no_grad`.

    Measured on lp2_resnet18, two cores, as fractions of an evaluation pass: this saves 0.11 to 0.14 at 64 px, batch 16;
    0.00 to 0.03 at 224 px, batch 1 and batch 8.
    """

    def __init__(self) -> None:
        self._last: tuple[_Source, list[list[Block]] | None] | None = None

    def clear(self) -> None:
        """Forget the kernel; training calls this, because it needs the memory."""
        self._last = None

    def get(
        self, weight: Tensor, mask: Tensor, layout: tuple[object, ...], make: Callable[[], list[list[Block]]]
    ) -> list[list[Block]] | None:
        """Return the blocks of each part of a masked kernel, or None if it is not kept. Gradients must be off.

        Args:
            weight: The weight.
            mask: The mask.
            layout: How their product is cropped, cut into blocks, and laid out in memory.
            make: Makes the blocks, in memory of their own.
        """
        weight = weight.detach()
        rows = _rows(weight)
        if weight.is_inference() or rows is None:
            return None
        fingerprint = rows @ _random_numbers(rows.shape[1], rows.dtype)
        source = _Source(weight, version_of(weight), fingerprint, mask, layout)
        last = self._last  # read once: other threads may replace it
        if last is None or not source.equals(last[0]):
            self._last = (source, None)
            return None
        if last[1] is None:
            with torch.inference_mode(False), torch.no_grad():
                last = self._last = (source, make())
        return last[1]


class Caches:
    """The two caches of a layer.

    Attributes:
        mask: Keeps the last mask.
        kernel: Keeps the last masked kernel of evaluation.
    """

    def __init__(self) -> None:
        self.mask = MaskCache()
        self.kernel = KernelCache()


def _rows(weight: Tensor) -> Tensor | None:
    """Return a view of a kernel with a row for each output channel, or None if there is no such view."""
    if weight.is_contiguous():
        return weight.flatten(1)
    if weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return None


@lru_cache(maxsize=64)
def _offsets(kernel_size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return offsets_of(kernel_size, dtype, torch.device("cpu"))


@lru_cache(maxsize=64)
def _random_numbers(count: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=dtype, device="cpu")
