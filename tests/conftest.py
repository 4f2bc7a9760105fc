import os
import signal

import pytest
import torch

pytest.register_assert_rewrite("tests.layers.comparison", "tests.layers.shapes", "tests.networks")
# The suite's tensors are tiny, and pytest-xdist runs it on every core; the processes that it starts inherit this.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
# A shell's background jobs ignore interruptions, and so would the tests of them.
signal.signal(signal.SIGINT, signal.default_int_handler)
