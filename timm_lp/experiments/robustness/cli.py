"""The command line of the robustness benchmark."""

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from accelerate import Accelerator

from ...command import failures_in_one_line
from ...recipes import read_recipe
from ...reporting import write_page
from ...trials.folder import check_results
from ...trials.networks import find_networks
from ..accelerator import create_accelerator
from ..classification.benchmark import Benchmark
from ..classification.config import FinetuneConfig
from ..classification.flags import DIGITS_RECIPE, RECIPES
from ..data.corruptions.computed import compute_corruptions
from ..data.corruptions.images import CorruptedSet
from ..data.corruptions.published import read_published
from ..data.decoding import UnreadableImageError
from ..data.images import DataSet
from ..data.loading import load_data
from ..data.presets import ReadOptions
from .flags import COMMAND, RobustnessSettings, command_line
from .measure import measure
from .networks import Candidate, check_data, describe_networks, shared_view
from .plot import plot
from .report import DEMONSTRATION, to_csv, to_json, to_markdown
from .scores import Scores

_DEMONSTRATION = {  # of the digits' recipe: tiny networks, trained for seconds
    "model_kwargs": {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32]},
    "variants": ["base", "large", "lp2"],
    "seeds": [1, 2, 3],
    "epochs": 10,
    "warmup_epochs": 1,
    "img_size": 16,
}


@failures_in_one_line(COMMAND.program, "The same command goes on from here.")
def main(arguments: Sequence[str] | None = None) -> None:
    """Test the networks that the command line names on corrupted images, print the tables, and write them.

    Args:
        arguments: The command line, or None for the process's own.

    Raises:
        SystemExit: If an argument cannot be used, files cannot be read or written, or a network could not be tested;
            the message says which.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("timm_lp.experiments").setLevel(logging.INFO)
    options = COMMAND.parse(arguments)
    command = command_line(options)
    accelerator = create_accelerator(mixed_precision=options.mixed_precision, cpu_threads=options.cpu_threads)
    is_demonstration = not options.networks
    if is_demonstration:
        options = replace(options, networks=[str(options.output_dir / "trials")], compute=True)
        _train(options.output_dir / "trials", accelerator)
    found = find_networks(options.networks)
    subjects = describe_networks(found.networks)
    corrupted = _corrupted(options, subjects, accelerator)
    for subject in subjects:
        corrupted.check_classes(subject.name, subject.num_classes, subject.class_names)
    try:
        results = measure(
            subjects,
            corrupted,
            accelerator,
            options.output_dir / "measured",
            batch_size=options.batch_size,
            channels_last=options.channels_last,
        )
    except UnreadableImageError as error:
        raise ValueError(f"`corruptions` must have images that can be read: {error}") from error
    if accelerator.is_main_process:
        _report(Scores(results), corrupted, options.output_dir, command, is_demonstration)
    accelerator.end_training()
    if accelerator.is_main_process:
        missing = [*found.failed, *dict.fromkeys(result.subject.name for result in results if result.error)]
        check_results(missing, f"{len(found.failed) + len(subjects)} networks")


def _train(folder: Path, accelerator: Accelerator) -> None:
    """Train the networks of the demonstration; trials that are there are not run again."""
    recipe = {**read_recipe(DIGITS_RECIPE, FinetuneConfig, RECIPES), **_DEMONSTRATION}
    Benchmark(FinetuneConfig(**recipe, output_dir=str(folder)), accelerator).run()


def _corrupted(options: RobustnessSettings, subjects: Sequence[Candidate], accelerator: Accelerator) -> CorruptedSet:
    severities = sorted(set(options.severities))
    with accelerator.main_process_first():  # one process computes or reads them, the others find what it kept
        if options.corruptions is not None:
            return read_published(options.corruptions, severities, check_md5=options.md5)
        data = _data(options, subjects)
        try:
            return compute_corruptions(
                data,
                severities,
                options.output_dir / "corruptions",
                preprocessing=lambda: shared_view(subjects),
                frost=options.frost,
            )
        except UnreadableImageError as error:
            raise ValueError(f"`dataset` must have images that can be read: {data.info.name}: {error}") from error


def _data(options: RobustnessSettings, subjects: Sequence[Candidate]) -> DataSet:
    """Return the data set whose test images get the corruptions."""
    record = next((subject.record for subject in subjects if subject.record), None)
    if record is None and options.dataset is None:
        raise ValueError(
            f"`dataset` must be given for --compute, got none with networks that name none ({subjects[0].name}). "
            "Give --dataset, as finetune.py takes it."
        )
    settings = record.settings if record else {}
    read = ReadOptions(**{option.name: settings.get(option.name) for option in fields(ReadOptions)})
    data = load_data(options.dataset or record.dataset_argument, read)  # type: ignore[union-attr] # one of them is there
    if record is not None:
        check_data(subjects, data.contents.sha256, data.info.name)
    return data


def _report(scores: Scores, corrupted: CorruptedSet, folder: Path, command: str, is_demonstration: bool) -> None:
    text = to_markdown(scores, corrupted)
    if is_demonstration:
        title, _, rest = text.partition("\n\n")
        text = f"{title}\n\nThis is {DEMONSTRATION}.\n\n{rest}"
    print(f"\n{text}", flush=True)
    title = DEMONSTRATION.capitalize() if is_demonstration else ""
    page = write_page(
        folder,
        "report",
        text,
        tables={"report.csv": to_csv(scores.results, corrupted)},
        data={"results.json": to_json(scores, corrupted, command, is_demonstration)},
        pictures={"report.png": lambda path: plot(scores, corrupted, path, title)},
    )
    print(f"\n{page}")
