"""A trial's curves in the tracker that is asked for, as a run of its own."""

from collections.abc import Mapping

from accelerate import Accelerator

from .config import FinetuneConfig
from .training import Progress
from .trial import Trial, trial_settings

_PROJECT = "timm-lp-finetune"


class Curves:
    """A run of a tracker, in which each epoch of a trial is a step, from 0; nothing where no tracker is asked for.

    Args:
        config: Settings.
        trial: The trial.
        accelerator: Has the tracker.
    """

    def __init__(self, config: FinetuneConfig, trial: Trial, accelerator: Accelerator) -> None:
        self._accelerator, self._is_followed = accelerator, config.track_accuracy
        self._steps = 0
        self._last = config.epochs - 1
        if config.tracker is None:
            return
        name = trial.folder.as_posix()
        settings = trial_settings(config, trial.model, accelerator)
        own = {key: str(value) for key, value in settings.items()}
        # TensorBoard knows a run by its folder, and wandb by its name.
        project = _PROJECT if config.tracker == "wandb" else f"{_PROJECT}/{name}"
        accelerator.init_trackers(project, init_kwargs={"wandb": {"name": name, "config": own}})

    def follow(self, progress: Progress) -> None:
        """Log the epochs that are new: the last one, or all up to where a trial is resumed."""
        known = progress.top1 if len(progress.top1) == progress.epochs else []
        for step in range(self._steps, progress.epochs):
            values = {"loss": progress.losses[step]}
            if known:
                values["top1"] = known[step]
            elif self._is_followed and step == progress.epochs - 1:  # an earlier part was not followed
                values["top1"] = progress.top1[-1]
            self._accelerator.log(values, step=step)
        self._steps = progress.epochs

    def end(self, metrics: Mapping[str, float] | None) -> None:
        """Log what a trial came to, None where it failed, and close its run."""
        if metrics and self._accelerator.trackers:
            followed = {"top1"} if self._is_followed else set()  # its last step is there
            values = {name: value for name, value in metrics.items() if name not in followed}
            self._accelerator.log(values, step=self._last)
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers = []
