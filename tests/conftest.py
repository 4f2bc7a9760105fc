import torch

torch.set_num_threads(1)  # the suite's tensors are tiny, and pytest-xdist runs it on every core
