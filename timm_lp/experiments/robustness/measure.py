"""The accuracy of networks on corrupted images; what was measured before is read, not measured again."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from timm.data import resolve_model_data_config
from tqdm.auto import tqdm

from ...files import write_json
from ...trials.record import DivergedError
from ..classification.evaluation import evaluate
from ..data.corruptions.images import CorruptedPart, CorruptedSet
from ..data.pixels import EvalPixels, eval_transform, pixels_mib
from .networks import Candidate

_SHARED_MIB = 1024  # of the images that are kept for the next network
_METRICS = ("top1", "mean_per_class")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a network reaches on a corruption at a severity.

    Attributes:
        subject: The network.
        corruption: The corruption.
        severity: Its severity.
        top1: Accuracy, percent; None where the network's outputs are not numbers.
        mean_per_class: Mean of the classes' accuracies, percent, likewise.
        error: Why there is none.
    """

    subject: Candidate
    corruption: str
    severity: int
    top1: float | None
    mean_per_class: float | None
    error: str | None = None


def measure(
    subjects: Sequence[Candidate],
    corrupted: CorruptedSet,
    accelerator: Accelerator,
    folder: Path,
    *,
    batch_size: int = 256,
    channels_last: bool = False,
) -> list[Result]:
    """Return the accuracy of each network on each corruption at each severity.

    Args:
        subjects: The networks.
        corrupted: The images.
        accelerator: Distributes the work, and has the number format.
        folder: Where what is measured is kept, in a file for each network; it is known by the network's weights
            and preprocessing, the contents of the images and the number format.
        batch_size: Images of a batch over all processes.
        channels_last: Whether networks and images have the channels last in memory.
    """
    pixels = _SharedPixels(corrupted)
    results = []
    total = len(subjects) * len(corrupted.parts)
    with tqdm(total=total, unit="test", dynamic_ncols=True, disable=not accelerator.is_main_process) as bar:
        for subject in subjects:
            bar.set_description(f"{subject.model} {subject.variant}")
            values = _of_network(subject, pixels, accelerator, folder, bar, batch_size, channels_last)
            results += [Result(subject, *condition, **values[condition]) for condition in corrupted.parts]
    return results


class _SharedPixels:
    """Decodes each set once for all networks with the same preprocessing, up to 1 GiB.

    Args:
        corrupted: The images.
    """

    def __init__(self, corrupted: CorruptedSet) -> None:
        self.parts, self.is_cropped = corrupted.parts, corrupted.is_cropped
        self._kept: dict[tuple[Any, ...], EvalPixels] = {}
        self._left_mib: float = _SHARED_MIB

    def get(self, condition: tuple[str, int], data_config: dict[str, Any]) -> EvalPixels:
        """Return the images of a corruption at a severity.

        Args:
            condition: The corruption and the severity.
            data_config: The network's preprocessing.
        """
        if self.is_cropped:
            data_config = {**data_config, "crop_pct": 1.0}
        key = (*condition, repr(sorted(data_config.items())))
        if key not in self._kept:
            images, transform = self.parts[condition].images, eval_transform(data_config)
            mib = pixels_mib(images, data_config)
            if mib > self._left_mib:
                return EvalPixels(images, transform, 0)
            self._kept[key] = EvalPixels(images, transform, mib)
            self._left_mib -= mib
        return self._kept[key]


def _of_network(
    subject: Candidate,
    pixels: _SharedPixels,
    accelerator: Accelerator,
    folder: Path,
    bar: tqdm,
    batch_size: int,
    channels_last: bool,
) -> dict[tuple[str, int], dict[str, Any]]:
    path = folder / f"{subject.sha256[:16]}.json"
    (kept,) = broadcast_object_list([_read(path, subject) if accelerator.is_main_process else None])
    precision = accelerator.mixed_precision
    values: dict[tuple[str, int], dict[str, Any]] = {}
    for condition, part in pixels.parts.items():
        if (key := _key(part, pixels.is_cropped, precision)) in kept:
            values[condition] = kept[key]
            bar.update()
    if len(values) == len(pixels.parts):
        return values
    network = subject.load().to(accelerator.device)
    data_config = resolve_model_data_config(network)
    for condition, part in pixels.parts.items():
        if condition in values:
            continue
        bar.set_postfix_str(f"{condition[0]} {condition[1]}")
        metrics: dict[str, Any] = dict.fromkeys(_METRICS)
        try:
            metrics |= evaluate(
                network,
                pixels.get(condition, data_config),
                accelerator,
                data_config=data_config,
                batch_size=batch_size,
                channels_last=channels_last,
            )
        except DivergedError as error:
            metrics["error"] = str(error)
            _logger.warning("%s on %s at severity %d: %s.", subject.name, *condition, error)
        values[condition] = kept[_key(part, pixels.is_cropped, precision)] = metrics
        if accelerator.is_main_process:
            write_json(path, {"network": subject.sha256, "accuracies": kept})
        bar.update()
    return values


def _key(part: CorruptedPart, is_cropped: bool, precision: str) -> str:
    """Return what tells measurements of a network apart: images, whether they were cropped before, number format."""
    return f"{part.sha256} {precision}{' cropped' if is_cropped else ''}"


def _read(path: Path, subject: Candidate) -> dict[str, dict[str, Any]]:
    """Return what is known of a network; nothing where the file is damaged or another network's."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kept = dict(content["accuracies"]) if content["network"] == subject.sha256 else {}
        if not all(map(_is_measured, kept.values())):
            raise ValueError("it holds accuracies that nothing can have")
    except (ValueError, LookupError, TypeError) as error:
        _logger.warning("%s cannot be read, and its network is tested again: %s", path, error)
        return {}
    return kept


def _is_measured(value: Any) -> bool:
    """Tell whether a value is of the form that is written here: percentages, or none and a reason."""
    if not isinstance(value, dict) or not {*_METRICS} <= value.keys() <= {*_METRICS, "error"}:
        return False
    if "error" in value:
        return isinstance(value["error"], str) and all(value[name] is None for name in _METRICS)
    return all(type(value[name]) in (int, float) and 0 <= value[name] <= 100 for name in _METRICS)
