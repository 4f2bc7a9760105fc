"""The command line of the robustness benchmark."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from ...command import NETWORK_FORMS, CommandLine
from ...settings import Settings, setting
from ..data.corruptions import NUM_SEVERITIES, WHERE
from ..data.presets import DIGITS


@dataclass(frozen=True)
class RobustnessSettings(Settings):
    """Which networks to test, and on which images."""

    networks: list[str] = setting([], NETWORK_FORMS, nargs="*", metavar="NETWORK", positional=True)
    corruptions: Path | None = setting(
        None, f"published corrupted images; nothing is downloaded: {WHERE}", Path, metavar="DIR"
    )
    compute: bool = setting(False, "corrupt the test images of the trials' data set here")
    frost: Path | None = setting(
        None,
        "with --compute, a folder of photographs of frost to blend in, or the frost.npy of CIFAR-10-C or CIFAR-100-C",
        Path,
    )
    dataset: str | None = setting(
        None, "data set to corrupt, as finetune.py takes it; the trials' own if not given", str
    )
    severities: list[int] = setting([1], "levels of the corruptions; Table 2 has 1", int, (1, NUM_SEVERITIES))
    md5: bool = setting(True, "refuse files other than the published ones")
    batch_size: int = setting(256, "images of a batch over all processes", limits=(1, inf))
    mixed_precision: str | None = setting(
        None, "number format; the launcher's if not given", str, choices=("no", "fp16", "bf16")
    )
    channels_last: bool = setting(False, "keep images and kernels in the channels-last format")
    cpu_threads: int | None = setting(
        None, "threads of a process on CPUs; its share of the cores if not given", int, (1, inf)
    )
    output_dir: Path = setting(Path("output/robustness"), "where the results go")

    def check_together(self) -> None:
        """Refuse what no run could use."""
        if self.corruptions and self.compute:
            raise ValueError("`--compute` must not come with --corruptions, got both. Leave one of them out.")
        if not self.networks and (self.corruptions or self.compute or self.dataset):
            raise ValueError(
                "`NETWORK` must be given with --corruptions, --compute or --dataset, got none. Name one."
            )
        if self.networks and not (self.corruptions or self.compute):
            raise ValueError(
                f"`--corruptions` or `--compute` must be given, got neither. {WHERE}; --compute needs no files."
            )
        if self.frost is not None and not self.compute:
            raise ValueError("`--frost` must come with --compute, got it without. Leave it out.")
        if self.dataset is not None and not self.compute:
            raise ValueError("`--dataset` must come with --compute, got it with --corruptions. Leave it out.")
        if not self.md5 and self.corruptions is None:
            raise ValueError("`--no-md5` must come with --corruptions, got it without. Leave it out.")


COMMAND = CommandLine(
    "timm-lp robustness",
    RobustnessSettings,
    f"The accuracy of trained networks on corrupted images (Table 2); without arguments, a demonstration on {DIGITS}.",
    launcher="python -m timm_lp.experiments.robustness",
)
parse_arguments = COMMAND.parse
command_line = COMMAND.repeat
