"""The command line of the masks' numbers and pictures."""

import logging
from collections.abc import Sequence

from huggingface_hub.utils import logging as hub_logging

from ..command import failures_in_one_line
from .flags import COMMAND
from .networks import demonstration, load_groups
from .report import write_masks


@failures_in_one_line(COMMAND.program)
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables and the pictures of the masks of some networks, and print the tables.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a network has no masks, or cannot be had; the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    hub_logging.disable_propagation()  # it prints its warnings itself
    settings = COMMAND.parse(arguments)
    groups = [demonstration()]
    if settings.networks:
        groups = load_groups(settings.networks, settings.pool, with_history=settings.animate)
    print(write_masks(groups, settings.output_dir))
