import numpy as np
import pytest
from PIL import Image

from timm_lp.experiments.data.shared_arrays import SharedArrays


@pytest.mark.parametrize("height", [1, 32, 33, 70])
def test_an_image_of_any_height_is_kept_as_it_is(height: int) -> None:
    """High images are copied in strips."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, 5, 3), dtype=np.uint8)
    arrays = SharedArrays(2, 2 * pixels.size)
    assert arrays.put(1, Image.fromarray(pixels))
    kept = arrays.get(1)
    assert kept is not None
    assert np.array_equal(kept, pixels)
    assert arrays.room == pixels.size
