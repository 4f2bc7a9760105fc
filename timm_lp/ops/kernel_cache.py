"""The last masked kernel that a layer convolved without gradients, for as long as it stays the same."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

Blocks = list[tuple[slice, Tensor]]


class _State(NamedTuple):
    """What a masked kernel was made from.

    Attributes:
        weight: The weight; keeping it keeps its memory from being used for another.
        version: Its version counter, which every change but those through `.data` moves.
        mark: Its products with random numbers, which those changes move too.
        mask: The mask, a new one whenever its parameters change.
        form: How the kernel was cropped, cut into parts and blocks, and laid out.
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
        self._last: tuple[_State, list[Blocks] | None] | None = None

    def clear(self) -> None:
        """Forget the kernel, as training does that needs the memory."""
        self._last = None

    @torch.no_grad()
    def get(
        self, weight: Tensor, mask: Tensor, form: tuple[object, ...], make: Callable[[], list[Blocks]]
    ) -> list[Blocks] | None:
        """Return the blocks of each part of a masked kernel, None where it is not kept.

        Args:
            weight: The weight.
            mask: The mask.
            form: How their product is cropped, cut into parts and blocks, and laid out.
            make: Makes the blocks, in memory of their own.
        """
        if weight.is_inference() or not weight.is_contiguous():
            return None
        weight = weight.detach()
        mark = weight.flatten(1) @ _probe(weight[0].numel(), weight.dtype)
        state = _State(weight, weight._version, mark, mask, form)
        last = self._last  # read once: other threads may replace it
        if last is None or not state.equals(last[0]):
            self._last = (state, None)
            return None
        if last[1] is None:
            with torch.inference_mode(False), torch.no_grad():
                last = self._last = (state, make())
        return last[1]


@lru_cache(maxsize=64)
def _probe(length: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return torch.randn(length, generator=torch.Generator().manual_seed(0), dtype=dtype, device="cpu")
