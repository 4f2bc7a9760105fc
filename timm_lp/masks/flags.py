"""The command line of the masks' numbers and pictures."""

from dataclasses import dataclass
from pathlib import Path

from ..command import NETWORK_FORMS, CommandLine
from ..settings import Settings, setting

POOLING = ("trials", "all", "none")


@dataclass(frozen=True)
class MasksSettings(Settings):
    """What masks to show, and how."""

    networks: list[str] = setting(
        [],
        f"{NETWORK_FORMS}, Sudoku's too; if none is given, a demonstration whose masks no training moved",
        nargs="*",
        metavar="NETWORK",
        positional=True,
    )
    pool: str = setting(
        POOLING[0],
        "which networks to take together: trials that differ only in their seeds; all; or none",
        choices=POOLING,
    )
    animate: bool = setting(
        False, "write a GIF of masks forming too, of trials that were run with --track-masks"
    )
    output_dir: Path = setting(Path("output/masks"), "where the results go")

    def check_together(self) -> None:
        """Refuse an animation of the demonstration."""
        if self.animate and not self.networks:
            raise ValueError("`--animate` must be used with trials, got none. Name some that ran with --track-masks.")


COMMAND = CommandLine(
    "timm-lp masks", MasksSettings, "What the masks of networks look like: tables and pictures, layer by layer."
)
parse_arguments = COMMAND.parse
