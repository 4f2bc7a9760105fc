"""The benchmark: every variant on every data set with every seed, each trial in a folder of its own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryFile
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from tqdm import tqdm

from ..files import write_json
from ..models.variants import BASE
from .config import FewShotConfig
from .data import DataSet, UnreadableImageError, draw
from .loading import load_data
from .networks import check_checkpoint, check_variant
from .results import TRIAL_FILE, Result, read_finished, save_model, trial_result, under_earlier_name
from .training import DivergedError, Progress, images_at_once, whole_batch_size
from .trial import CHECKPOINT_FILE, Outcome, TestImages, Trial, check_held_out, run_trial

_logger = logging.getLogger(__name__)


def load_all(config: FewShotConfig, accelerator: Accelerator) -> list[DataSet]:
    """Return the data sets, after a check that each has the images that the settings ask for.

    Raises:
        ValueError: If one cannot be had, has too few images, or two would share a folder.
    """
    with accelerator.main_process_first():  # one process downloads, the others find it in the cache
        loaded = [load_data(name, config) for name in config.dataset]
        shared = [data.contents.num_shared for data in loaded]  # one reads the images, the others its digests
    names = {data.folder for data in loaded}
    datasets = [under_earlier_name(Path(config.output_dir), data, names) for data in loaded]
    folders = [data.folder for data in datasets]
    if len(set(folders)) < len(folders):
        raise ValueError(f"`dataset` must not name two with the same folder, got {', '.join(folders)}.")
    for data, own, num_shared in zip(datasets, loaded, shared, strict=True):
        if data.folder != own.folder and accelerator.is_main_process:
            _logger.info("%s has the contents of %s, and goes on as that.", own.info.name, data.info.name)
        if num_shared and accelerator.is_main_process:
            _logger.warning(
                "%s: %d of %d test images are among the training images too.",
                data.info.name, num_shared, len(data.test),
            )  # fmt: skip
        drawn = draw(data, config.sampler, config.shots, config.seeds[0])
        whole_batch_size(config, len(drawn.train), accelerator)
        if config.lr_sweep:
            check_held_out(data, drawn)
        short = drawn.short
        if short and accelerator.is_main_process:
            _logger.warning(
                "%s: %d of %d classes have fewer than %d training images and give all they have (%s %d, the fewest).",
                data.info.name, len(short), len(data.train.class_names), config.shots, *min(short.items(), key=_count),
            )  # fmt: skip
    return datasets


class Benchmark:
    """Runs trials, one after the other.

    Args:
        config: Settings.
        accelerator: Distributes the work.

    Raises:
        ValueError: If a model or a data set is unknown, the settings or `config.checkpoint` do not fit a variant, or
            `config.output_dir` holds other trials or cannot be written to.
    """

    def __init__(self, config: FewShotConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.output_dir = Path(config.output_dir)
        self.results: list[Result] = []
        for variant in dict.fromkeys([*config.variants, *([BASE] if config.lr_sweep else [])]):
            check_variant(config, variant, images_at_once(config, accelerator))
        self.datasets = load_all(config, accelerator)
        for num_classes in {len(data.train.class_names) for data in self.datasets}:
            check_checkpoint(config, num_classes)
        swept = ("lr",) if config.lr_sweep else ()
        for data in self.datasets:
            for trial in [*self._trials(data), *(trial for lr in config.lr_sweep for trial in self._sweep(data, lr))]:
                read_finished(self.output_dir, trial, config, accelerator, but=swept)
        if accelerator.is_main_process:
            self._check_writable()

    def _check_writable(self) -> None:
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.output_dir):
                pass
        except OSError as error:
            raise ValueError(
                f"`output_dir` must be a folder to write to, got {str(self.output_dir)!r}: {error}"
            ) from error

    def run(self) -> list[Result]:
        """Run every trial that has no result yet, and return the results of all.

        Each trial's folder under `config.output_dir` gets `trial.json` and the model as timm's `local-dir:` loads it.
        """
        with self._progress() as bar:
            for data in self.datasets:
                test_images = TestImages(data)
                config = self._with_lr(data, test_images, bar)
                for trial in self._trials(data):
                    self._run(config, trial, test_images, bar)
        return self.results

    def _trials(self, data: DataSet) -> list[Trial]:
        return [Trial(data, variant, seed) for seed in self.config.seeds for variant in self.config.variants]

    def _sweep(self, data: DataSet, lr: float) -> list[Trial]:
        return [Trial(data, BASE, seed, held_out=True, lr=lr) for seed in self.config.seeds]

    def _with_lr(self, data: DataSet, test_images: TestImages, bar: tqdm) -> FewShotConfig:
        """Return the settings with the learning rate at which the base network does best on held-out images.

        Its accuracies are averaged over the seeds; a rate at which a trial failed is out.
        """
        sweep = self.config.lr_sweep
        if not sweep:
            return self.config
        tried = []
        for lr in sweep:
            config = replace(self.config, lr=lr, lr_sweep=[])
            metrics = [self._run(config, trial, test_images, bar)["metrics"] for trial in self._sweep(data, lr)]
            if all(metrics):
                tried.append((fmean(metric["top1"] for metric in metrics), lr))
        name = data.info.name
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

    def _run(self, config: FewShotConfig, trial: Trial, test_images: TestImages, bar: tqdm) -> Result:
        """Return a trial's result: the one that it has, or else that of running it."""
        folder = self.output_dir / trial.folder
        done = read_finished(self.output_dir, trial, config, self.accelerator) if self._is_main else None
        (done,) = broadcast_object_list([done])
        if done is not None:
            bar.update(config.epochs)
            self.results.append(done)
            return done
        bar.set_description(trial.folder.as_posix())
        reached = bar.n
        outcome, error, final = None, None, True
        try:
            outcome = run_trial(config, trial, test_images, self.accelerator, self._follow(trial, bar), folder)
        except DivergedError as failure:
            error = str(failure)
        except UnreadableImageError as failure:
            error, final = f"{trial.data.info.name}: {failure}", False
        except torch.OutOfMemoryError as failure:
            if self.accelerator.num_processes > 1:
                raise  # the other processes are in the middle of the trial
            error, final = f"the device's memory is full: {str(failure).splitlines()[0]}", False
        result = trial_result(config, trial, self.accelerator, outcome, error, final)
        if self._is_main:
            result = self._keep(result, outcome, trial, folder, reached + config.epochs)
        (result,) = broadcast_object_list([result])
        bar.update(reached + config.epochs - bar.n)
        self.results.append(result)
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()
        return result

    def _keep(self, result: Result, outcome: Outcome | None, trial: Trial, folder: Path, step: int) -> Result:
        """Write what a trial leaves; a disk that does not take it is the trial's failure."""
        try:
            if outcome and self.config.save_models and not trial.held_out:
                save_model(folder, outcome, self.config.model_kwargs, trial.data.train.class_names)
            write_json(folder / TRIAL_FILE, result)
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        except (OSError, SafetensorError) as failure:
            error = f"its result could not be written: {failure}"
            result = {**result, "metrics": None, "error": error, "final": False}
        if result["error"]:
            _logger.warning("%s failed: %s.", trial.folder.as_posix(), result["error"].rstrip("."))
        else:
            values = {f"{trial.folder.as_posix()}/{name}": value for name, value in result["metrics"].items()}
            self.accelerator.log(values, step=step)
        return result

    @property
    def _is_main(self) -> bool:
        return self.accelerator.is_main_process

    def _follow(self, trial: Trial, bar: tqdm) -> Any:
        """Return what shows a trial's epochs: on the bar, and in the tracker."""
        start = bar.n

        def on_epoch(progress: Progress) -> None:
            bar.set_postfix(loss=f"{progress.losses[-1]:.3f}", refresh=False)
            bar.update(start + progress.epochs - bar.n)
            # Steps count the epochs of all trials: wandb drops what is behind the last step.
            self.accelerator.log({f"{trial.folder.as_posix()}/loss": progress.losses[-1]}, step=bar.n)

        return on_epoch

    @contextmanager
    def _progress(self) -> Iterator[tqdm]:
        """Show the epochs of all trials on one bar, in the main process alone."""
        count = len(self.datasets) * len(self.config.seeds) * (len(self.config.variants) + len(self.config.lr_sweep))
        total = count * self.config.epochs
        with tqdm(total=total, unit="epoch", disable=not self._is_main, dynamic_ncols=True) as bar:
            yield bar


def _count(item: tuple[str, int]) -> int:
    return item[1]
