"""What shows of a training while it runs: its epochs in TensorBoard or W&B, and its masks in the trial's folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from ..masks import MaskLogger
from ..masks.history import keep_masks
from ..masks.statistics import layer_masks
from ..trials.record import TrialRecord

_PICTURES = 10  # of a training's masks, evenly over its epochs and after the last: each takes about a second

_logger = logging.getLogger(__name__)


class TrackedTrial:
    """Follows a trial: in the tracker it is a run of its own, whose steps are the epochs, counted from 0.

    As a context manager, it closes that run.

    Args:
        accelerator: Has the tracker, if there is one.
        record: The trial.
        epochs: How many it trains.
        project: What the tracker calls the experiment.
        masks_to: The folder in which to keep the masks of each epoch; None to keep none.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        record: TrialRecord,
        epochs: int,
        *,
        project: str,
        masks_to: Path | None,
    ) -> None:
        self._accelerator, self._epochs = accelerator, epochs
        self._masks_to, self._done = masks_to, 0
        self._logged: dict[str, float] = {}  # in the last step
        settings = {key: str(value) for key, value in record.decisive().items()}
        # TensorBoard knows a run by its folder, and wandb by its name.
        name = project if "wandb" in map(str, accelerator.log_with) else f"{project}/{record.folder}"
        accelerator.init_trackers(name, init_kwargs={"wandb": {"name": record.folder, "config": settings}})

    def follow(self, curves: Mapping[str, Sequence[float]], network: nn.Module | None) -> None:
        """Log the epochs since the last call, and the masks as they are now; call it before the first epoch too.

        Args:
            curves: A value for each epoch so far; of a curve with fewer, the last one is of the last epoch.
            network: The network at the end of these epochs; None where it has gone on, as that of a checkpoint may.
        """
        done = max(map(len, curves.values()), default=0)
        for step in range(self._done, done):
            is_last = step == done - 1
            self._logged = {
                name: values[step - done]
                for name, values in curves.items()
                if len(values) == done or (is_last and values)
            }
            self._accelerator.log(self._logged, step=step)
        self._done = done
        if network is not None and self._accelerator.is_main_process:
            self._follow_masks(network)

    def conclude(self, metrics: Mapping[str, float]) -> None:
        """Log a trial's metrics, but for those with which the curves end."""
        new = {name: value for name, value in metrics.items() if self._logged.get(name) != value}
        if new:
            self._accelerator.log(new, step=self._done - 1)

    def __enter__(self) -> "TrackedTrial":
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []

    def _follow_masks(self, network: nn.Module) -> None:
        """Keep and log the masks; what fails here is no failure of the trial."""
        try:
            if self._masks_to is not None:
                keep_masks(network, self._masks_to, self._done)
            for tracker in self._accelerator.trackers if self._done and layer_masks(network) else ():
                MaskLogger(network, tracker.tracker).log(self._done - 1, picture=self._is_pictured())
        except (ImportError, OSError, ValueError) as error:
            _logger.warning("Not all masks of epoch %d are there: %s", self._done, error)

    def _is_pictured(self) -> bool:
        passed = _PICTURES * self._done // self._epochs
        return passed > _PICTURES * (self._done - 1) // self._epochs
