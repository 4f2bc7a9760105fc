import os

import pytest
import torch

pytest.register_assert_rewrite("tests.layers.comparison", "tests.layers.shapes", "tests.networks")
# The suite's tensors are tiny, and pytest-xdist runs it on every core.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
