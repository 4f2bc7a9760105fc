"""What a run of the benchmark is told: one dataclass, from which the flags and the recipe files' keys are made."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from timm.utils import ParseKwargs

DIGITS_RECIPE = files(__package__) / "recipes" / "digits.yaml"


def _setting(default: Any, help: str, **argument: Any) -> Any:
    """Return a dataclass field whose metadata says how its flag is parsed."""
    metadata = {"help": help, **argument}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FewShotConfig:
    """Settings of a run; the same for every variant, as in the paper (Table 4)."""

    model: str = _setting("convnextv2_tiny", "base network in timm's registry, with or without a tag")
    model_kwargs: dict[str, Any] = _setting({}, "further arguments of the model, key=value", nargs="*")
    dataset: str = _setting("digits", "'digits', or a folder with train/<class>/ and test/<class>/ images")
    pretrained: bool = _setting(True, "start from timm's pretrained weights")
    checkpoint: str | None = _setting(None, "start from this checkpoint of the base network instead")
    variants: list[str] = _setting(["base", "large", "lp2", "lp16"], "base, large, lp2, lp4, lp8, lp16, lp256f")
    shots: int = _setting(16, "training images of each class")
    seeds: list[int] = _setting([1, 2, 3, 4, 5], "one trial of each variant for each seed", type=int)
    epochs: int = _setting(100, "passes over the training images")
    batch_size: int = _setting(32, "images of a training step, over all processes")
    lr: float = _setting(1e-4, "peak learning rate of AdamW")
    weight_decay: float = _setting(0.05, "weight decay; never of norms, biases and masks")
    layer_decay: float | None = _setting(None, "learning rate of a layer over that of the next one", type=float)
    warmup_epochs: int = _setting(5, "epochs of linear warm-up, then cosine")
    smoothing: float = _setting(0.1, "label smoothing")
    drop_path_rate: float | None = _setting(None, "stochastic depth, where the network has it", type=float)
    clip_grad: float | None = _setting(None, "largest norm of the gradient", type=float)
    img_size: int | None = _setting(None, "image size, pixels; the model's own if not given", type=int)
    hflip: float = _setting(0.5, "probability of a horizontal flip")
    crop_scale_min: float = _setting(0.35, "least area of a random crop, a fraction")
    crop_pct: float | None = _setting(
        None, "part of the image that the test sees; the model's own if not given", type=float
    )
    workers: int = _setting(0, "processes that load images")
    save_models: bool = _setting(True, "save the trained model of each trial")
    output_dir: str = _setting("output/fewshot", "where trials and results go")

    def __post_init__(self) -> None:
        """Refuse what no run could use.

        Raises:
            ValueError: If a setting is out of its range.
        """
        for name in ("shots", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("variants", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must name at least one, and none twice, got {values}.")

    def trial_settings(self) -> dict[str, Any]:
        """Return the settings on which a trial's result depends, but for its variant and seed."""
        elsewhere = {"variants", "seeds", "workers", "save_models", "output_dir"}
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}


def parse_config(arguments: Sequence[str] | None = None) -> FewShotConfig:
    """Return the settings of a command line: flags win over the recipe file, and that over the defaults.

    Without a recipe and without flags that name a model or a data set, the recipe is the embedded digits'.

    Args:
        arguments: The command line, or None for the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="finetune.py",
        description="Few-shot transfer of base, large and Lp networks; without arguments, on embedded digits.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", default=None, help="recipe, a YAML file with any of these settings")
    for setting in fields(FewShotConfig):
        _add_flag(parser, setting)
    flags = vars(parser.parse_args(arguments))
    recipe = flags.pop("config")
    if recipe is None and not flags.keys() & {"model", "dataset"}:
        recipe = DIGITS_RECIPE
    try:
        settings = _read_recipe(recipe) if recipe else {}
        return FewShotConfig(**{**settings, **flags})
    except ValueError as error:
        parser.error(str(error))


def _add_flag(parser: argparse.ArgumentParser, setting: Field[Any]) -> None:
    argument = dict(setting.metadata)
    default = setting.default if setting.default_factory is MISSING else setting.default_factory()
    argument["help"] = f"{argument['help']} (default: {default})"
    if isinstance(default, bool):
        argument["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, dict):
        argument["action"] = ParseKwargs
    elif isinstance(default, list):
        argument["nargs"] = "+"
    elif default is not None:
        argument["type"] = type(default)
    parser.add_argument(f"--{setting.name.replace('_', '-')}", **argument)


def _read_recipe(path: Any) -> dict[str, Any]:
    """Return the settings of a recipe file."""
    source = Path(path) if isinstance(path, str) else path
    try:
        settings = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"`--config` must be a readable YAML file, got {path}: {error}") from error
    known = {setting.name for setting in fields(FewShotConfig)}
    if not isinstance(settings, dict) or not settings.keys() <= known:
        unknown = sorted(settings.keys() - known) if isinstance(settings, dict) else settings
        raise ValueError(f"`--config` must hold settings that --help lists, got {unknown} in {path}.")
    return settings
