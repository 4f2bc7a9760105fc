"""What the command shows where no network is named: tiny networks, trained for seconds on the embedded digits."""

from pathlib import Path

from accelerate import Accelerator

from ...recipes import read_recipe
from ..classification.benchmark import Benchmark
from ..classification.config import FinetuneConfig
from ..classification.flags import DIGITS_RECIPE, RECIPES

_SHORT = {
    "model_kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32]},
    "variants": ["base", "large", "lp2"],
    "seeds": [1, 2, 3],
    "epochs": 10,
    "warmup_epochs": 1,
    "img_size": 16,
}


def train_networks(folder: Path, accelerator: Accelerator) -> None:
    """Train the digits recipe's small network for a few epochs; trials that are there are not run again.

    Args:
        folder: Where the trials go.
        accelerator: Distributes the work.
    """
    recipe = {**read_recipe(DIGITS_RECIPE, FinetuneConfig, RECIPES), **_SHORT}
    Benchmark(FinetuneConfig(**recipe, output_dir=str(folder)), accelerator).run()
