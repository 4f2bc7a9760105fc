"""What is random in corrupted images: each image has a generator of its own."""

import hashlib

import numpy as np


class Draws:
    """The generators of some images; one depends on the image's pixels and on `purpose` alone.

    So a corrupted image is the same wherever in a data set the image stands, and however many are made at once.

    Args:
        images: The images `(N, H, W, 3)` of `uint8`.
        purpose: Tells apart what is drawn for an image, a corruption and its severity for instance.
    """

    def __init__(self, images: np.ndarray, purpose: str) -> None:
        self._generators = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(purpose.encode() + image.tobytes()).digest(), "big"))
            for image in images
        ]

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return standard normal numbers, `(N, *shape)`."""
        return np.stack([generator.standard_normal(shape) for generator in self._generators])

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Return numbers between two, `(N, *shape)`."""
        return np.stack([np.asarray(generator.uniform(low, high, shape)) for generator in self._generators])

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return whole numbers from `low` to `high` inclusive, `(N, *shape)`."""
        return np.stack([generator.integers(low, high, shape, endpoint=True) for generator in self._generators])

    def poisson(self, means: np.ndarray) -> np.ndarray:
        """Return a number of events for each mean `(N, ...)`."""
        return np.stack([generator.poisson(own) for generator, own in zip(self._generators, means, strict=True)])
