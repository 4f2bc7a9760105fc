"""The command line of the masks' numbers and pictures."""

from dataclasses import dataclass
from pathlib import Path

from ..command import CommandLine
from ..settings import check_settings, setting

POOLING = ("trials", "all", "none")


@dataclass(frozen=True)
class MasksSettings:
    """What masks to show, and how."""

    networks: list[str] = setting(
        [],
        "a registered name, hf-hub:ORG/NAME, local-dir:FOLDER or a trial's folder, Sudoku's too; if none is given, a "
        "demonstration whose masks no training moved",
        nargs="*",
        metavar="NETWORK",
        positional=True,
    )
    pool: str = setting(
        POOLING[0],
        "which networks to take together: trials, whose names differ only in the -seed1 at their end; all; or none",
        choices=POOLING,
    )
    output_dir: Path = setting(Path("output/masks"), "where the results go")

    def __post_init__(self) -> None:
        """Refuse what cannot be used.

        Raises:
            ValueError: If a setting is not of its type.
        """
        check_settings(self)


COMMAND = CommandLine(
    "timm-lp masks", MasksSettings, "What the masks of networks look like: tables and pictures, layer by layer."
)
parse_arguments = COMMAND.parse
