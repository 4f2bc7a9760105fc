"""Masks to watch while a network trains: numbers by layer and a gallery, in TensorBoard or W&B."""

import math
from typing import Any

import numpy as np
from torch import nn

from .gallery import plot_gallery
from .group import Group
from .statistics import all_masks, summarize

_NUMBERS = {"p": "p_median", "alpha": "alpha", "gamma": "gamma", "near_0": "horizontal", "near_90": "vertical"}


class MaskLogger:
    """Logs the masks of a network that trains, whatever the training loop is.

    For each layer, it logs the medians of p, alpha (pixels) and gamma; of the masks that have a direction, the shares
    within 15 degrees of 0 and of 90; and a picture of the masks. On several processes, let one log.

    Args:
        model: A network with `LpConv2d` layers.
        writer: A `torch.utils.tensorboard.SummaryWriter`, or the run that `wandb.init` returns; of Accelerate,
            `accelerator.get_tracker("tensorboard", unwrap=True)`.

    Raises:
        TypeError: If the writer is neither.
        ValueError: If the network has no masks.
    """

    def __init__(self, model: nn.Module, writer: Any) -> None:
        is_run = hasattr(writer, "log") and hasattr(writer, "define_metric")  # others have a `log` too
        if not (hasattr(writer, "add_scalar") or is_run):
            raise TypeError(
                f"`writer` must be TensorBoard's SummaryWriter or a run of wandb, got {type(writer).__name__}. "
                'Accelerate gives it by get_tracker("tensorboard", unwrap=True).'
            )
        all_masks(model)
        self._model, self._writer = model, writer

    def log(self, step: int, *, picture: bool = True) -> None:
        """Log the masks as they are now.

        Args:
            step: The step of the training, or its epoch.
            picture: Whether to draw them too, which takes about a second.

        Raises:
            ImportError: If matplotlib is not installed, and a picture is to be drawn.
            ValueError: If a mask is not finite.
        """
        layers = all_masks(self._model)
        values: dict[str, float] = {}
        for layer in layers:
            line = summarize([layer])
            numbers = {name: getattr(line, field) for name, field in _NUMBERS.items()}
            values |= {f"mask_{name}/{layer.fqn}": number for name, number in numbers.items() if math.isfinite(number)}
        image = _pixels(plot_gallery(Group("masks", (), layers))) if picture else None
        if hasattr(self._writer, "add_scalar"):
            self._to_tensorboard(values, image, step)
        else:
            self._to_wandb(values, image, step)

    def _to_tensorboard(self, values: dict[str, float], image: np.ndarray | None, step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        if image is not None:
            self._writer.add_image("masks", image, step, dataformats="HWC")

    def _to_wandb(self, values: dict[str, float], image: np.ndarray | None, step: int) -> None:
        images = {}
        if image is not None:
            import wandb

            images["masks"] = wandb.Image(image)
        self._writer.log({**values, **images}, step=step)


def _pixels(figure: Any) -> np.ndarray:
    """Return a figure of matplotlib's as an image, shape `(H, W, 3)` in uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
