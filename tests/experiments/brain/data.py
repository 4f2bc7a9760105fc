"""Small cortices for the tests, and files of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from timm_lp.experiments.brain.responses import Responses, write_responses
from timm_lp.experiments.brain.synthetic import SyntheticCortex, synthetic_cortex

IMAGES = 16


def small_cortex(**kwargs: Any) -> SyntheticCortex:
    return synthetic_cortex(**{"images": IMAGES, "size": 32, "trials": 4, "neurons": 12, **kwargs})


def write(path: Path, responses: Responses, **changes: Any) -> Path:
    """Write a responses file whose arrays are changed, or left out where a change is None; `about` by its entries."""
    write_responses(path, responses)
    with np.load(path) as file:
        arrays = dict(file)
    about = {**json.loads(str(arrays["about"])), **changes.pop("about", {})}
    arrays["about"] = np.array(json.dumps({name: value for name, value in about.items() if value is not None}))
    arrays = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(path, **arrays)
    return path
