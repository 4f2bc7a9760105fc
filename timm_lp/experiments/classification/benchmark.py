"""The benchmark: every variant on every data set with every seed, each trial in a folder of its own."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean

import timm
from accelerate import Accelerator
from torch import nn
from tqdm.auto import tqdm

from ...files import TRIAL_FILE
from ...models.small_stem import SMALL_STEMS
from ...start import forbids_commerce
from ...trials.checkpoint import CHECKPOINT_FILE, CheckpointFile
from ...trials.folder import check_writable, find_data, find_finished
from ...trials.record import TrialRecord
from ...trials.runner import OnProgress, Runner, Task
from ...variants import BASE
from ..accelerator import share
from ..data.images import DataSet
from ..data.loading import load_data
from ..data.presets import DIGITS
from ..data.sampling import draw, num_drawn
from ..tracking import TrackedTrial
from .batches import images_at_once, whole_batch_size
from .config import FinetuneConfig
from .networks import check_checkpoint, check_start, check_variant, smallest_map
from .results import figures, save_model, trial_record
from .training import Progress
from .trial import EvalImages, Outcome, Trial, check_held_out, run_trial

_MOST_NAMED = 5  # damaged images in a message

_logger = logging.getLogger(__name__)


def load_all(config: FinetuneConfig, accelerator: Accelerator) -> list[DataSet]:
    """Return the data sets, after a check that each has the images that the settings ask for.

    Raises:
        ValueError: If one cannot be had, has too few images, or two would share a folder.
    """
    with accelerator.main_process_first():  # one process downloads, the others find it in the cache
        loaded = [_load(config, name) for name in config.dataset]
        shared = [data.contents.num_shared for data in loaded]  # one reads the images, the others its digests
    names = {data.folder for data in loaded}
    datasets = [_under_earlier_name(Path(config.output_dir), data, names) for data in loaded]
    folders = [data.folder for data in datasets]
    if len(set(folders)) < len(folders):
        raise ValueError(f"`dataset` must not name two with the same folder, got {', '.join(folders)}.")
    for data, read, num_shared in zip(datasets, loaded, shared, strict=True):
        if data.folder != read.folder and accelerator.is_main_process:
            _logger.info("%s has the contents of %s, and goes on as that.", read.info.name, data.info.name)
        if data.note and accelerator.is_main_process:
            _logger.info("%s: %s.", data.info.name, data.note)
        damaged = [*dict.fromkeys([*data.train.damaged.values(), *data.test.damaged.values()])]  # folds share images
        if damaged and accelerator.is_main_process:
            _logger.warning(
                "%s: %d of its images cannot be read, and the trials that need them will fail: %s",
                data.info.name, len(damaged), "; ".join(damaged[:_MOST_NAMED]),
            )  # fmt: skip
        if num_shared and accelerator.is_main_process:
            _logger.warning(
                "%s: %d of %d test images are among the training images too.",
                data.info.name, num_shared, len(data.test),
            )  # fmt: skip
        short: dict[str, int] = {}
        for seed in config.seeds if data.folds else config.seeds[:1]:  # folds differ in size
            drawn = draw(data, config.sampler, config.shots, seed)
            whole_batch_size(config, len(drawn.train), accelerator)
            if config.lr_sweep:
                check_held_out(data, drawn)
            short |= {name: min(count, short.get(name, count)) for name, count in drawn.short.items()}
        if short and accelerator.is_main_process:
            _logger.warning(
                "%s: %d of %d classes have fewer than %d training images and give all they have (%s %d, the fewest).",
                data.info.name, len(short), len(data.train.class_names), config.shots, *min(short.items(), key=_count),
            )  # fmt: skip
    return datasets


def _load(config: FinetuneConfig, name: str) -> DataSet:
    """Return a data set whose images, as far as the trials need them, were decoded once, now or in an earlier run."""
    data = load_data(name, config.read_options)
    if not config.jpeg_draft:  # the networks decide to what size they are decoded
        # The check keeps the first data set's; the prepared test images may need the other half.
        data = data.keeping(config.cache_mib, config.cache_mib / 2 if name == config.dataset[0] else 0)
    if not config.check_images:
        return data
    draws = [draw(data, config.sampler, config.shots, seed) for seed in config.seeds]
    return data.checked(sorted({index for drawn in draws for index in drawn.train.indices}))


def _under_earlier_name(output_dir: Path, data: DataSet, taken: Collection[str]) -> DataSet:
    """Return a data set by the name that it has in the trials of an output folder, where its folder was renamed."""
    if data.location is None or (output_dir / data.folder).exists():
        return data
    earlier = find_data(output_dir, data.contents.sha256, taken)
    return data if earlier is None else replace(data, folder=earlier[0], info=earlier[1])


class Benchmark:
    """Runs trials, one after the other.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Raises:
        ValueError: If a model or a data set is unknown, the settings or `config.checkpoint` do not fit a variant, or
            `config.output_dir` holds other trials or cannot be written to.
        OSError: If weights that a trial starts from are neither cached nor within reach.
    """

    def __init__(self, config: FinetuneConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.output_dir = Path(config.output_dir)
        self.records: list[TrialRecord] = []
        self._runner = Runner(self.output_dir, accelerator, share)
        variants = dict.fromkeys([*config.variants, *([BASE] if config.lr_sweep else [])])
        for model, variant in product(config.model, variants):
            check_variant(config, model, variant, images_at_once(config, accelerator))
        self.datasets = load_all(config, accelerator)
        self._warn_of_points()
        counts = {len(data.train.class_names) for data in self.datasets}
        for model, num_classes in product(config.model, counts):
            check_checkpoint(config, model, num_classes)
        swept, unfinished = ("lr",) if config.lr_sweep else (), dict[tuple[str, str], None]()
        for data, model in product(self.datasets, config.model):
            swept_trials = [trial for lr in config.lr_sweep for trial in self._sweep(data, model, lr)]
            for trial in [*self._trials(data, model), *swept_trials]:
                if not self._check_finished(trial, but=swept):
                    unfinished[model, trial.variant] = None
        self._say_licences(dict.fromkeys(model for model, _ in unfinished))
        self._name_other_models()
        for model, variant in unfinished:
            check_start(config, model, variant)
        if accelerator.is_main_process:
            check_writable(self.output_dir)

    def _warn_of_points(self) -> None:
        """Say where kernels meet little but padding; not of the embedded digits, whose results only show the way."""
        for model in self.config.model if set(self.config.dataset) != {DIGITS} and self._is_main else ():
            if smallest_map(self.config, model) == (1, 1):
                stem = ", or --small-stem" if model in SMALL_STEMS else ""
                _logger.warning(
                    "%s: its last kernels see a map of a single pixel, around which they meet only padding. "
                    "Give a larger --img-size%s.",
                    model, stem,
                )  # fmt: skip

    def _say_licences(self, models: Collection[str]) -> None:
        for model in models if self._is_main and self.config.pretrained and not self.config.checkpoint else ():
            cfg = timm.get_pretrained_cfg(model)
            if cfg is not None and forbids_commerce(cfg.license):
                _logger.warning(
                    "%s starts from weights under %s, which forbids commercial use, of what is trained too.",
                    model, cfg.license,
                )  # fmt: skip

    def _name_other_models(self) -> None:
        """Name models that were trained there before: a run that began with another default goes on with its name."""
        for data in self.datasets if self._is_main else ():
            folder = self.output_dir / data.folder
            own = {model.replace(":", ".") for model in self.config.model}  # as `trial_folder` has it
            others = {path.parts[-3] for path in folder.glob(f"*/*/{TRIAL_FILE}")} - own
            if others:
                _logger.info(
                    "%s holds trials of %s too: --model goes on with them.", folder, ", ".join(sorted(others))
                )

    def run(self) -> list[TrialRecord]:
        """Run every trial that has no record yet, and return the records of all.

        Each trial's folder under `config.output_dir` gets `trial.json` and a model that timm's `local-dir:` loads.
        """
        with self._progress() as bar:
            for data in self.datasets:
                images = EvalImages(data)
                for model in self.config.model:
                    config = self._with_lr(images, model, bar)
                    for trial in self._trials(data, model):
                        self._run(config, trial, images, bar)
                data.forget()
        return self.records

    def _trials(self, data: DataSet, model: str) -> list[Trial]:
        return [Trial(data, model, variant, seed) for seed in self.config.seeds for variant in self.config.variants]

    def _sweep(self, data: DataSet, model: str, lr: float) -> list[Trial]:
        return [Trial(data, model, BASE, seed, held_out=True, lr=lr) for seed in self.config.seeds]

    def _check_finished(self, trial: Trial, but: Collection[str]) -> bool:
        """Tell whether a trial is finished.

        Raises:
            ValueError: If its folder holds another one.
        """
        expected = trial_record(self.config, trial, self.accelerator).decisive()
        return find_finished(self.output_dir / trial.folder, expected, but) is not None

    def _with_lr(self, images: EvalImages, model: str, bar: tqdm) -> FinetuneConfig:
        """Return the settings with the learning rate at which the base network does best on held-out images.

        Its accuracies are averaged over the seeds; a rate at which a trial failed is out.
        """
        sweep = self.config.lr_sweep
        if not sweep:
            return self.config
        tried = []
        for lr in sweep:
            config = replace(self.config, lr=lr, lr_sweep=[])
            trials = self._sweep(images.data, model, lr)
            metrics = [self._run(config, trial, images, bar).metrics for trial in trials]
            if all(metrics):
                tried.append((fmean(metric["top1"] for metric in metrics if metric), lr))
        name = images.data.info.name
        name = f"{name}, {model}" if len(self.config.model) > 1 else name
        if not tried:
            _logger.warning("%s: no rate of the sweep could be tried; going on with %g.", name, self.config.lr)
            return replace(self.config, lr_sweep=[])
        top1, lr = max(tried, key=lambda pair: (pair[0], -pair[1]))
        if self._is_main:
            _logger.info("%s: learning rate %g (top-1 %.2f %% on held-out images).", name, lr, top1)
            if len(sweep) > 1 and lr in (min(sweep), max(sweep)):
                end = "lowest" if lr == min(sweep) else "highest"
                _logger.warning("%s: that is the %s rate of the sweep; a wider one may find a better.", name, end)
        return replace(self.config, lr=lr, lr_sweep=[])

    def _run(self, config: FinetuneConfig, trial: Trial, images: EvalImages, bar: tqdm) -> TrialRecord:
        """Return a trial's record: the one in its folder, or else that of running it now."""
        record, length = trial_record(config, trial, self.accelerator), self._length(trial.data)

        def train(folder: Path, on_progress: OnProgress) -> Outcome:
            checkpoint = CheckpointFile(folder / CHECKPOINT_FILE, record.decisive(), config.checkpoint_seconds)

            def show(progress: Progress) -> None:
                done = progress.done / config.epochs
                on_progress(round(done * length), progress.losses[-1] if progress.losses else None)

            def follow(progress: Progress, network: nn.Module) -> None:
                top1 = progress.top1 if config.track_accuracy else []
                tracked.follow({"loss": progress.losses, "top1": top1}, None if progress.updates else network)

            with TrackedTrial(
                self.accelerator,
                record,
                config.epochs,
                project="timm-lp-finetune",
                masks_to=folder if config.track_masks else None,
            ) as tracked:
                outcome = run_trial(config, trial, images, self.accelerator, show, checkpoint, follow)
                tracked.conclude(outcome.metrics)
            return outcome

        def save(folder: Path, outcome: Outcome) -> None:
            save_model(folder, outcome, config.kwargs_of(trial.model), trial.data.train.class_names)

        task = Task(
            record=record,
            length=length,
            train=train,
            figures=partial(figures, config, trial.data),
            save=save if config.save_models and not trial.held_out else None,
        )
        self.records.append(self._runner.run(task, bar))
        return self.records[-1]

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process

    def _length(self, data: DataSet) -> int:
        """Return how many images a trial trains on, in all epochs."""
        return self.config.epochs * num_drawn(data, self.config.shots, self.config.seeds[0])

    @contextmanager
    def _progress(self) -> Iterator[tqdm]:
        """Show the images of all trials on one bar, with the time left, in the main process alone."""
        config = self.config
        trials = len(config.model) * len(config.seeds) * (len(config.variants) + len(config.lr_sweep))
        total = trials * sum(map(self._length, self.datasets))
        shown = {"unit": "image", "unit_scale": True, "smoothing": 0, "dynamic_ncols": True}
        with tqdm(total=total, disable=not self._is_main, **shown) as bar:
            yield bar


def _count(item: tuple[str, int]) -> int:
    return item[1]
