"""The command line of the speed benchmark."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from ..command import NETWORK_FORMS, CommandLine
from ..settings import Settings, check_lists, setting

SUITES = ("networks", "training", "compiled", "latency", "layers", "growth", "grid")
FORMATS = ("NCHW", "NHWC")
AUTOCAST = "autocast"
DTYPES = ("float32", AUTOCAST, "bfloat16")
CLOCKS = ("wall", "cpu")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class BenchSettings(Settings):
    """What to measure, and how."""

    suite: str | None = setting(
        None, f"what to measure, see below; {SUITES[0]} if not given", str, choices=SUITES, nargs="?", positional=True
    )
    network: list[str] = setting([], f"time these in place of a suite: {NETWORK_FORMS}", metavar="NETWORK")
    batch_size: int | None = setting(
        None, "images at a time for --network, 8 if not given; 1 for evaluation alone", int, (1, inf)
    )
    only: str = setting("", "measure the cases whose names contain this")
    runs: int = setting(7, "measured runs of each form", limits=(1, inf))
    format: list[str] = setting(["NCHW"], "NHWC is channels_last", choices=FORMATS)
    dtype: list[str] = setting(["float32"], "autocast is to bfloat16", choices=DTYPES)
    optimizer: bool = setting(False, "end training steps with AdamW")
    threads: list[int] = setting([], "threads on the CPU; torch's own number if not given", int, (1, inf))
    clock: str = setting(CLOCKS[0], "cpu, on one thread, is for busy machines", choices=CLOCKS)
    device: str = setting(DEVICES[0], "where it runs", choices=DEVICES)
    compile: bool = setting(False, "measure large and lp under torch.compile too")
    memory: bool = setting(True, "measure the peak memory")
    output: Path = setting(Path("output/bench"), "where the results go")
    compare: Path | None = setting(None, "results.json of another run, to compare with", Path)

    def check_together(self) -> None:
        """Refuse what would have no effect."""
        check_lists(self, "format", "dtype", *(["threads"] if self.threads else []))
        if self.threads and self.device != DEVICES[0]:
            raise ValueError(f"`--threads` must come with --device cpu, got it with {self.device}. Leave it out.")
        if self.network and self.suite:
            raise ValueError(f"`--network` must not come with a suite, got {self.suite} too. Leave one of them out.")
        if self.batch_size and not self.network:
            raise ValueError(
                f"`--batch-size` must come with --network, got {self.batch_size} alone: a suite's cases have their own."
            )


COMMAND = CommandLine(
    "timm-lp bench",
    BenchSettings,
    "Speed and memory of Lp-convolution beside plain PyTorch. Each case runs in each mode, the product of --format, "
    "--dtype and --threads.",
    epilog="networks: the README's table; training: whole networks at the sizes and batches of training; compiled: "
    "networks that compile in a minute or two, for --compile; latency: "
    "evaluation of one image; layers: single layers; growth: one layer over the size of its kernel; grid: layers of "
    "every kind, to search for one that is slower than torch's convolution.",
)
parse_arguments = COMMAND.parse
