"""The last masked kernel that a layer convolved without gradients, for as long as it stays the same."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .masked_kernel import MaskedKernel

Blocks = list[tuple[slice, Tensor]]


class _State(NamedTuple):
    """What a masked kernel was made from.

    Attributes:
        weight: The weight; keeping it keeps its memory from being used for another.
        version: Its version counter, which every change but those through `.data` moves.
        mark: Its products with random numbers, which those changes move too.
        mask: The mask, a new one whenever its parameters change.
        form: How the kernel was cropped, cut into blocks and laid out.
    """

    weight: Tensor
    version: int
    mark: Tensor
    mask: Tensor
    form: tuple[object, ...]

    def equals(self, other: "_State") -> bool:
        return (
            self.mask is other.mask
            and self.form == other.form
            and self.weight.data_ptr() == other.weight.data_ptr()
            and self.version == other.version
            and torch.equal(self.mark, other.mark)
        )


class KernelCache:
    """Keeps a masked kernel that is asked for a second time, so that a weight in change costs no memory."""

    def __init__(self) -> None:
        self._last: tuple[_State, Blocks | None] | None = None

    def clear(self) -> None:
        """Forget the kernel, as training does that needs the memory."""
        self._last = None

    @torch.no_grad()
    def blocks(self, kernel: MaskedKernel, ranges: tuple[slice, ...], form: tuple[object, ...]) -> Blocks | None:
        """Return the blocks of a masked kernel, None where it is not kept.

        Args:
            kernel: The masked kernel.
            ranges: Ranges of output channels, one for each block.
            form: How it is cropped, cut into blocks and laid out.
        """
        weight = kernel.weight
        if weight.is_inference() or not weight.is_contiguous():
            return None
        weight = weight.detach()
        mark = weight.flatten(1) @ _probe(weight[0].numel(), weight.dtype)
        state = _State(weight, weight._version, mark, kernel.mask, form)
        last = self._last  # read once: other threads may replace it
        if last is None or not state.equals(last[0]):
            self._last = (state, None)
            return None
        if last[1] is None:
            with torch.inference_mode(False), torch.no_grad():
                kept = [(channels, block.clone()) for channels, block in kernel.blocks(ranges)]
            last = self._last = (state, kept)
        return last[1]


@lru_cache(maxsize=64)
def _probe(length: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.randn(length, generator=torch.Generator().manual_seed(0), dtype=dtype)
