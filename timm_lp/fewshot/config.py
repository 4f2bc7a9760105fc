"""What a run of the benchmark is told: one dataclass, from which the flags and the recipe files' keys are made."""

from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..files import file_digest
from ..models.variants import BASE

DEFAULT_VARIANTS = [BASE, "large", "lp2", "lp16"]

# What timm's `create_model` takes beside the arguments of a network itself.
_DECIDED = (
    *("num_classes", "in_chans", "features_only", "feature_cfg", "preserve", "device", "dtype"),
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "kwargs_filter", "scriptable", "exportable", "no_jit"),
)
_NOT_PYTHON = ("true", "false", "yes", "no", "on", "off")  # as text they would all count as true
_TINY = 1e-12  # least value where 0 would train nothing


def _setting(
    default: Any,
    help: str,
    kind: type | None = None,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a dataclass field whose metadata says what its values must be."""
    if kind is None:
        kind = str if isinstance(default, list) else type(default)
    metadata = {"help": help, "kind": kind, "limits": limits, "choices": choices}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FewShotConfig:
    """Settings of a run; the same for every variant, as in the paper (Table 4)."""

    model: str = _setting("convnextv2_tiny", "base network in timm's registry, with or without a tag")
    model_kwargs: dict[str, Any] = _setting({}, "further arguments of the model, key=value")
    pretrained: bool = _setting(True, "start from timm's pretrained weights")
    checkpoint: str | None = _setting(None, "start from this checkpoint of the base network instead", str)
    variants: list[str] = _setting(
        DEFAULT_VARIANTS,
        "base, large, large-reinit, lp2, lp4, lp8, lp16, lp256f; a mask's '-paper' form (lp2-paper) damps the kernels",
    )

    dataset: list[str] = _setting(
        ["digits"],
        "one or more: flowers102 dtd pets aircraft ucf101 cifar100 digits, a Hub id (org/name), a folder with "
        "train/<class>/ and test/<class>/ images or with parquet files, a split file of CoOp's",
    )
    dataset_config: str | None = _setting(None, "configuration of the Hub data set", str)
    dataset_revision: str | None = _setting(None, "commit, branch or tag of the Hub data set", str)
    image_column: str | None = _setting(None, "column of the images", str)
    label_column: str | None = _setting(None, "column of the classes", str)
    train_split: str | None = _setting(None, "split to draw from, or several joined by +", str)
    test_split: str | None = _setting(None, "split to test on", str)
    shots: int = _setting(16, "training images of each class; all or 0 for all", limits=(0, inf))
    sampler: str = _setting("nested", "how images are drawn; coop as CoOp does", choices=("nested", "coop"))
    seeds: list[int] = _setting([1, 2, 3, 4, 5], "one trial of each variant for each seed", int, (0, 2**32 - 1))

    epochs: int = _setting(100, "passes over the training images", limits=(1, inf))
    batch_size: int = _setting(
        32,
        "images of an update, over all processes and accumulation steps; what is left of an epoch is left out",
        limits=(1, inf),
    )
    grad_accum_steps: int = _setting(1, "parts in which a process computes its share of a batch", limits=(1, inf))
    lr: float = _setting(1e-4, "peak learning rate of AdamW", limits=(_TINY, inf))
    lr_sweep: list[float] = _setting(
        [], "choose the rate among these, with the base network on held-out images of all seeds", float, (_TINY, inf)
    )
    mask_lr_scale: float = _setting(1.0, "learning rate of the masks over that of their layer", limits=(0, inf))
    weight_decay: float = _setting(0.05, "weight decay; never of norms, biases and masks", limits=(0, inf))
    layer_decay: float | None = _setting(None, "learning rate of a layer over that of the next one", float, (1e-6, 1))
    warmup_epochs: int = _setting(5, "epochs of linear warm-up, at most half of all, then cosine", limits=(0, inf))
    smoothing: float = _setting(0.1, "label smoothing", limits=(0, 1))
    drop_path_rate: float | None = _setting(None, "stochastic depth, of networks that have it", float, (0, 1))
    clip_grad: float | None = _setting(None, "largest norm of the gradient", float, (_TINY, inf))
    model_ema_decay: float | None = _setting(None, "test a moving average of the weights, of this decay", float, (0, 1))

    img_size: int | None = _setting(None, "image size, pixels; the model's own if not given", int, (1, inf))
    hflip: float = _setting(0.5, "probability of a horizontal flip", limits=(0, 1))
    crop_scale_min: float = _setting(0.35, "least area of a random crop, a fraction", limits=(0.01, 1))
    auto_augment: str | None = _setting(None, "timm's AutoAugment policy, rand-m9-mstd0.5 for instance", str)
    crop_pct: float | None = _setting(
        None, "part of the image that the test sees; the model's own if not given", float, (0.01, 1)
    )

    mixed_precision: str | None = _setting(
        None, "number format; what `accelerate launch` says if not given", str, choices=("no", "fp16", "bf16")
    )
    compile: bool = _setting(False, "compile the network with torch.compile")
    channels_last: bool = _setting(False, "keep images and kernels in the channels-last format")
    workers: int | None = _setting(
        None, "processes that load images; chosen by the device if not given", int, (0, 1024)
    )
    cpu_threads: int | None = _setting(
        None, "threads of a process on CPUs; if not given, OMP_NUM_THREADS or its share of the cores", int, (1, 1024)
    )
    cache_mib: int = _setting(4096, "keep decoded images in memory up to this size, MiB", limits=(0, inf))
    checkpoint_seconds: float = _setting(60.0, "least time between a trial's checkpoints, seconds", limits=(0, inf))
    tracker: str | None = _setting(
        None, "follow the losses in tensorboard or wandb", str, choices=("tensorboard", "wandb")
    )
    save_models: bool = _setting(True, "save the trained model of each trial")
    push_to_hub: str | None = _setting(None, "push the best trial's model to this repository (org/name)", str)
    output_dir: str = _setting("output/fewshot", "where trials and results go")

    def __post_init__(self) -> None:
        """Refuse what no run could use.

        Raises:
            ValueError: If a setting is not of its type or out of its limits.
        """
        if isinstance(self.dataset, str):
            object.__setattr__(self, "dataset", [self.dataset])
        if self.shots == "all":
            object.__setattr__(self, "shots", 0)
        for setting in fields(self):
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        for name in ("variants", "seeds", "dataset", "lr_sweep"):
            values = getattr(self, name)
            if (not values and name != "lr_sweep") or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must name at least one, and none twice, got {values}.")
        self._check_model_kwargs()
        if self.push_to_hub is not None:
            self._check_push(self.push_to_hub)

    def _check_model_kwargs(self) -> None:
        """Refuse arguments that the benchmark or another setting decides, and truth values in other languages."""
        decided = (*_DECIDED, *(() if self.drop_path_rate is None else ("drop_path_rate",)))
        for name, value in self.model_kwargs.items():
            if name in decided:
                raise ValueError(
                    f"`model_kwargs` must not hold what the data set or another setting decides, got {name}={value!r}. "
                    "Leave it out."
                )
            if isinstance(value, str) and value.lower() in _NOT_PYTHON:
                raise ValueError(
                    f"`model_kwargs` must have True and False as Python writes them, got {name}={value!r}."
                )

    def _check_push(self, repo: str) -> None:
        """Refuse now what would fail when everything is trained."""
        try:
            validate_repo_id(repo)
            known = "/" in repo
        except HFValidationError:
            known = False
        if not known:
            raise ValueError(f"`push_to_hub` must be org/name as the Hub allows it, got {repo!r}.")
        if len(self.dataset) > 1 or not self.save_models:
            raise ValueError(
                f"`push_to_hub` must be used with one data set and saved models, got {repo!r} with "
                f"{len(self.dataset)} data sets and save_models={self.save_models}."
            )

    def trial_settings(self) -> dict[str, Any]:
        """Return the settings on which a trial's result depends, but for its data set, variant and seed."""
        settings = {name: value for name, value in asdict(self).items() if name not in _ELSEWHERE}
        return settings | {"checkpoint_sha256": self._checkpoint_sha256}

    @cached_property
    def _checkpoint_sha256(self) -> str | None:
        return None if self.checkpoint is None else file_digest(Path(self.checkpoint))


_ELSEWHERE = {
    *("variants", "seeds", "dataset", "lr_sweep"),
    *("workers", "cpu_threads", "cache_mib", "checkpoint_seconds"),
    *("tracker", "save_models", "push_to_hub", "output_dir"),
}


def default(setting: Field[Any]) -> Any:
    """Return a setting's default value."""
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


def _checked(setting: Field[Any], value: Any) -> Any:
    """Return a setting's value, numbers and lists in their type, or refuse it."""
    usual = default(setting)
    if value is None and usual is None:
        return None
    if not isinstance(usual, list):
        return _checked_item(setting, value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{setting.name}` must be a list, got {value!r}. Write [{value}] in a recipe.")
    return [_checked_item(setting, item) for item in value]


def _checked_item(setting: Field[Any], value: Any) -> Any:
    kind, limits, choices = (setting.metadata[key] for key in ("kind", "limits", "choices"))
    if kind in (int, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = kind(value)  # a recipe's numbers come as they are written
    if type(value) is not kind:
        raise ValueError(f"`{setting.name}` must be of type {kind.__name__}, got {value!r}.")
    if limits and not (limits[0] <= value <= limits[1] and value < inf):
        rule = f"between {limits[0]:g} and {limits[1]:g}"
        if limits[1] == inf:
            rule = f"at least {limits[0]:g}{' and finite' if kind is float else ''}"
        raise ValueError(f"`{setting.name}` must be {rule}, got {value}.")
    if choices and value not in choices:
        raise ValueError(f"`{setting.name}` must be {' or '.join(choices)}, got {value!r}.")
    return value
