"""Images with a corruption."""

from collections.abc import Callable

import numpy as np

from . import blur, digital, noise, weather
from .draws import Draws
from .names import COMPUTED, NUM_SEVERITIES, SEVERITIES, SIZE

_MODULES = (noise, blur, weather, digital)
FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    name: getattr(module, name) for name in COMPUTED for module in _MODULES if hasattr(module, name)
}


def corrupt(images: np.ndarray, corruption: str, severity: int) -> np.ndarray:
    """Return images with a corruption of CIFAR-10-C and CIFAR-100-C.

    What is random in it depends on the corruption, the severity and the image's own pixels alone.

    Args:
        images: `(N, 32, 32, 3)`, `uint8`, for which the severities are published.
        corruption: One of `names.COMPUTED`.
        severity: From 1 to 5.

    Returns:
        The corrupted images, of the same shape and type; levels are rounded down, as in the published code.

    Raises:
        ValueError: If there is no such corruption or severity, or the images are others.
    """
    if corruption not in FUNCTIONS:
        raise ValueError(f"`corruption` must be one of {', '.join(COMPUTED)}, got {corruption!r}.")
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise ValueError(f"`severity` must be from 1 to {NUM_SEVERITIES}, got {severity}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(
            f"`images` must be uint8 of shape (N, {SIZE}, {SIZE}, 3), got {images.dtype} of {images.shape}."
        )
    draws = Draws(images, f"{corruption} {severity} ")
    made = FUNCTIONS[corruption](images / 255, draws, *SEVERITIES[corruption][severity - 1])
    return (np.clip(made, 0, 1) * 255).astype(np.uint8)
