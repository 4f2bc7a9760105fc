"""Tiny networks, and what the benchmark is told of them."""

import numpy as np
import pytest
import torch
from torch import nn

from timm_lp.experiments.classification.config import FinetuneConfig

TINY = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}


def config(**settings: object) -> FinetuneConfig:
    """Return settings of a small ResNet from random weights."""
    usual = {"model": "resnet18", "model_kwargs": TINY, "pretrained": False, "img_size": 32, "checkpoint_seconds": 0.0}
    return FinetuneConfig(**{**usual, **settings})  # type: ignore[arg-type]


def accuracy(model: nn.Module, images: torch.Tensor, labels: np.ndarray) -> object:
    """Return the accuracy, percent, give or take the images whose class rounding decides."""
    with torch.inference_mode():
        logits = model.eval()(images)
    first, second = logits.topk(2)[0].unbind(dim=1)
    undecided = (first - second < 1e-4 * first.abs().max()).double().mean().item()
    right = (logits.argmax(1) == torch.from_numpy(labels)).double().mean().item()
    return pytest.approx(100 * right, abs=100 * undecided + 1e-9)
