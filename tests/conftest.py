import pytest
import torch

pytest.register_assert_rewrite("tests.layers.comparison", "tests.layers.shapes", "tests.networks")
torch.set_num_threads(1)  # the suite's tensors are tiny, and pytest-xdist runs it on every core
