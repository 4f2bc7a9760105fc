"""A trial's checkpoint: one file that is complete or not there, whenever the process ends."""

import io
import logging
import time
from pathlib import Path
from typing import Any

import torch

from ..command import first_line
from ..files import write_bytes

CHECKPOINT_FILE = "checkpoint.pt"  # in a trial's folder

_logger = logging.getLogger(__name__)


class CheckpointFile:
    """Keeps a trial's last state on disk, written by the main process alone.

    Args:
        path: The file.
        settings: Everything on which the trial's result depends; the state of a trial with other settings is ignored.
        seconds: Least time between two states, seconds.
    """

    def __init__(self, path: Path, settings: dict[str, Any], seconds: float) -> None:
        self._path, self._settings, self._seconds = path, settings, seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Tell whether the last state is old enough."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write a state in place of the last one, which stays, with a warning, if the disk does not take it."""
        buffer = io.BytesIO()  # torch's own writer hides the reason of a failure
        torch.save({"settings": self._settings, "state": state}, buffer)
        try:
            write_bytes(self._path, buffer.getbuffer())
        except OSError as error:
            _logger.warning("No checkpoint: %s. The trial goes on without.", error)
            self._path.with_suffix(".partial").unlink(missing_ok=True)
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the last state; None if there is none, it is damaged, or its settings differ."""
        if not self._path.exists():
            return None
        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True)
            settings, state = content["settings"], content["state"]
        except Exception as error:  # whatever the readers of zip archives and pickles stumble over
            _logger.warning("%s cannot be read, and its trial starts again: %s", self._path, first_line(error))
            return None
        if settings != self._settings:
            _logger.warning("%s has other settings, and its trial starts again.", self._path)
            return None
        return state

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
