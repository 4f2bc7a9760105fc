"""Settings of a Sudoku run: one dataclass, from which the flags and the recipes' keys are made."""

import math
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from ...settings import SEEDS, TINY, TRACK_MASKS_HELP, TRACKER_HELP, TRACKERS, Settings, check_lists, setting
from ...variants import BASE, SUDOKU_INPUTS, SUDOKU_VARIANTS

GENERATED = 10_000  # puzzles, if nobody says how many
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class SudokuConfig(Settings):
    """Settings of a run, the same for every variant; the defaults are the authors' where they gave any."""

    data: str | None = setting(
        None, "CSV file (or .csv.gz) with the columns quizzes,solutions or puzzle,solution; if not given, generate", str
    )
    puzzles: int | None = setting(
        None,
        f"puzzles, those of the test included: how many to generate ({GENERATED:,} if not given), "
        "or the first ones of --data (all if not given)",
        int,
        (2, inf),
    )
    test_puzzles: int = setting(1000, "puzzles that are held out for the test", limits=(1, inf))
    data_seed: int = setting(0, "seed of the generated puzzles, and of the choice for the test", limits=SEEDS)
    augment: bool = setting(True, "turn the training puzzles into others, by renaming digits and moving lines")
    transpose: bool = setting(False, "swap rows and columns too; leave it where rows are compared with columns")

    variants: list[str] = setting(
        [BASE, "large", "lp2", "lp16", "lp256f"],
        f"one or more of {', '.join(SUDOKU_VARIANTS)}",
        choices=SUDOKU_VARIANTS,
    )
    seeds: list[int] = setting([1, 2, 3], "one trial of each variant for each seed", int, SEEDS)
    channels: int = setting(256, "channels of each block", limits=(1, inf))
    depth: int = setting(10, "number of blocks", limits=(1, inf))
    input: str = setting(
        "scalar", "the digit as one number, as in the paper, or in ten channels", choices=SUDOKU_INPUTS
    )

    epochs: int = setting(20, "passes over the training puzzles", limits=(1, inf))
    puzzles_seen: int | None = setting(
        None, "end after so many puzzles instead, rounded up to whole batches", int, (1, inf)
    )
    batch_size: int = setting(100, "puzzles of an update, over all processes", limits=(1, inf))
    lr: float = setting(1e-4, "learning rate of Adam", limits=(TINY, inf))
    schedule: str = setting("constant", "how the rate goes on; cosine falls to 0 at the end", choices=SCHEDULES)
    stepwise_puzzles: int = setting(
        100, "test puzzles that are also filled one cell at a time at the end, the surest first", limits=(0, inf)
    )

    mixed_precision: str = setting("no", "number format", choices=("no", "bf16"))
    channels_last: bool = setting(True, "keep activations and kernels in the channels-last format")
    compile: bool = setting(False, "compile the networks with torch.compile")
    cpu_threads: int | None = setting(
        None, "threads of a process on CPUs; if not given, OMP_NUM_THREADS or its share of the cores", int, (1, 1024)
    )
    checkpoint_seconds: float = setting(60.0, "least time between a trial's checkpoints, seconds", limits=(0, inf))
    save_networks: bool = setting(True, "save the trained network of each trial")
    tracker: str | None = setting(None, TRACKER_HELP, str, choices=TRACKERS)
    track_masks: bool = setting(False, TRACK_MASKS_HELP)
    output_dir: str = setting("output/sudoku", "where trials and results go")

    ablate_variant: str = setting("lp2", "of --ablate: the variant whose networks are taken, those of all seeds")
    ablate_puzzles: int = setting(500, "of --ablate: how many of the test puzzles to use", limits=(1, inf))
    ablate_draws: int = setting(5, "of --ablate: how often random channels are drawn", limits=(1, inf))
    ablate_min_gamma: float = setting(3.0, "of --ablate: distortion above which a mask is oriented", limits=(1, inf))

    def check_together(self) -> None:
        """Refuse what no run could use."""
        check_lists(self, "variants", "seeds")
        if self.transpose and not self.augment:
            raise ValueError("`transpose` must be used with `augment`, got it without. Leave out one of the two flags.")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Return the number of updates of a training."""
        if self.puzzles_seen is not None:
            return math.ceil(self.puzzles_seen / self.batch_size)
        return self.epochs * steps_per_epoch

    @property
    def model(self) -> str:
        """Name of the base network."""
        return f"sudoku{self.channels}x{self.depth}-{self.input}"

    def network_arguments(self, variant: str) -> dict[str, Any]:
        """Return the arguments with which `create_network` makes a variant."""
        return {"variant": variant, "channels": self.channels, "depth": self.depth, "inputs": self.input}

    def trial_settings(self) -> dict[str, Any]:
        """Return the settings on which a trial's result depends, but for its data, its variant and its seed."""
        return {name: value for name, value in asdict(self).items() if name not in _ELSEWHERE}


_ELSEWHERE = {
    *("data", "variants", "seeds", "cpu_threads", "checkpoint_seconds", "save_networks", "tracker", "track_masks"),
    "output_dir",
    *("ablate_variant", "ablate_puzzles", "ablate_draws", "ablate_min_gamma"),
}
