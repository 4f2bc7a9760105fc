"""The command lines of the comparisons with the brain."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from math import inf
from pathlib import Path
from typing import Any

from ...command import NETWORK_FORMS, CommandLine, parse_subcommand
from ...settings import SEEDS, TINY, Settings, check_lists, setting
from .recordings import AREAS, CRE_LINES, DEPTH, WINDOW

PROGRAM = "timm-lp brain"

_TABLE_5 = ["base", "large", "lp2", "lp4", "lp8", "lp16"]


@dataclass(frozen=True)
class RsaSettings(Settings):
    """What to compare with which cortex, and how."""

    responses: Path | None = setting(
        None, "responses of a cortex; synthetic ones if not given", Path, metavar="FILE"
    )
    images: Path | None = setting(
        None, "its images in the same order; the file's own if not given", Path, metavar="DIR"
    )
    models: list[str] = setting([], NETWORK_FORMS, metavar="NETWORK")
    untrained: list[str] = setting([], "such networks, but with random weights", metavar="NETWORK")
    seeds: list[int] = setting([0], "of random weights, not of trials", int, SEEDS)
    layers: list[str] = setting([], "modules to compare; every convolution if not given")
    areas: list[str] = setting([], "areas to compare with; all if not given")
    image_size: int | None = setting(None, "pixels of the networks' input; their own if not given", int, (1, inf))
    resamples: int = setting(500, "samples of the images, for intervals", limits=(1, inf))
    splits: int = setting(50, "divisions of the images into halves", limits=(1, inf))
    permutations: int = setting(100, "shuffled orders of the images", limits=(1, inf))
    seed: int = setting(0, "of samples, divisions and orders", limits=SEEDS)
    device: str = setting("cpu", "where it runs", choices=("cpu", "cuda"))
    output_dir: Path = setting(Path("output/brain/rsa"), "where the results go")

    def check_together(self) -> None:
        """Refuse what no run could use."""
        check_lists(self, "seeds")
        if self.images is not None and self.responses is None:
            raise ValueError("`--images` must come with `--responses`, got it alone. Leave it out.")
        if self.seeds != [0] and self.models and not self.untrained:
            raise ValueError("`--seeds` must come with `--untrained`, whose weights they draw. Leave it out.")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Settings):
    """Which recordings to pool, and how."""

    nwb: Path = setting(MISSING, "NWB files of the recordings", Path, metavar="DIR")
    events: Path = setting(MISSING, "NUMBER_events.npz of each", Path, metavar="DIR")
    areas: list[str] = setting([*AREAS], "areas to take")
    depth: list[float] = setting(
        [*DEPTH], "micrometres, both included; layer 2/3", float, nargs=2, metavar=("LEAST", "GREATEST")
    )
    cre: list[str] = setting([*CRE_LINES], "Cre lines to take; none: all", nargs="*")
    window: int = setting(WINDOW, "frames whose events are summed", limits=(1, inf))
    image_side: int = setting(256, "longest side that is kept", limits=(1, inf))
    output_dir: Path = setting(Path("output/brain/prepare"), "where the results go")


@dataclass(frozen=True)
class Mmv1Settings(Settings):
    """Which mice, which networks, and how these are trained."""

    data: Path | None = setting(None, "the published data: a folder for each mouse", Path, metavar="DIR")
    synthetic: bool = setting(False, "made-up mice and small networks, to see it run")
    mice: list[str] = setting([], "folders to take; all if not given")
    variants: list[str] = setting(_TABLE_5, "conversions of the network, beside the one that sees no video")
    seeds: list[int] = setting([0], "one trial of each variant for each seed", int, SEEDS)
    frames: int | None = setting(None, "bins that the network sees (default: 4)", int, (1, inf))
    epochs: int | None = setting(None, "at most (default: 50)", int, (1, inf))
    batch_size: int | None = setting(None, "windows, over all processes (default: 256)", int, (1, inf))
    lr: float | None = setting(None, "of Adam (default: 2e-4)", float, (TINY, inf))
    output_dir: Path = setting(Path("output/brain/mmv1"), "where the results go")

    def check_together(self) -> None:
        """Refuse what no run could use."""
        check_lists(self, "variants", "seeds")
        if self.synthetic == bool(self.data):
            raise ValueError("either `--data` or `--synthetic` must be given.")
        if self.synthetic and self.mice:
            raise ValueError("`--mice` must come with `--data`, got it with `--synthetic`. Leave it out.")


COMMANDS: dict[str, CommandLine[Any]] = {
    "rsa": CommandLine(
        f"{PROGRAM} rsa",
        RsaSettings,
        "Kendall's tau between the similarities of images in the layers of networks and in areas of a cortex. Without "
        "arguments: untrained networks beside a synthetic cortex.",
        summary="representational similarity of networks and areas (Figure 6)",
    ),
    "prepare": CommandLine(
        f"{PROGRAM} prepare",
        PrepareSettings,
        "Pool the neurons of recordings by area, and write a responses file for `rsa`.",
        summary="a responses file from a copy of the Allen Brain Observatory",
        takes_recipe=False,
    ),
    "mmv1": CommandLine(
        f"{PROGRAM} mmv1",
        Mmv1Settings,
        "Train the network of Xu et al. (2024) and its conversions, beside one that sees no video.",
        summary="prediction of V1 activity in freely moving mice (Table 5)",
    ),
}


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[str, Any]:
    """Return which command a command line names, `rsa` where it is empty, and the command's settings.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If a flag cannot be used.
    """
    description = "Compare networks with the visual cortex of mice; without arguments, the demonstration of rsa."
    return parse_subcommand(PROGRAM, description, COMMANDS, arguments, usual="rsa")
