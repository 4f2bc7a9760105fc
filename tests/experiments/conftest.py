from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture(autouse=True, scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what `datasets` and we ourselves cache out of the home folder."""
    datasets.config.HF_DATASETS_CACHE = Path(tmp_path_factory.mktemp("datasets"))
    huggingface_hub.constants.HF_ASSETS_CACHE = str(tmp_path_factory.mktemp("assets"))
    datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """Let each test and each module's fixtures choose their number format: Accelerate keeps a process's first one."""
    forget_format()
    yield
    forget_format()


def forget_format() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
