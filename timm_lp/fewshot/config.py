"""What a run of the benchmark is told: one dataclass, from which the flags and the recipe files' keys are made."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any

import yaml
from timm.utils import ParseKwargs

DIGITS_RECIPE = files(__package__) / "recipes" / "digits.yaml"


def _setting(default: Any, help: str, kind: type | None = None, limits: tuple[float, float] | None = None) -> Any:
    """Return a dataclass field whose metadata says what its values must be: of which type, and between which limits."""
    if kind is None:
        kind = str if isinstance(default, list) else type(default)
    metadata = {"help": help, "kind": kind, "limits": limits}
    if isinstance(default, (list, dict)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class FewShotConfig:
    """Settings of a run; the same for every variant, as in the paper (Table 4)."""

    model: str = _setting("convnextv2_tiny", "base network in timm's registry, with or without a tag")
    model_kwargs: dict[str, Any] = _setting({}, "further arguments of the model, key=value")
    dataset: str = _setting("digits", "'digits', or a folder with train/<class>/ and test/<class>/ images")
    pretrained: bool = _setting(True, "start from timm's pretrained weights")
    checkpoint: str | None = _setting(None, "start from this checkpoint of the base network instead", str)
    variants: list[str] = _setting(["base", "large", "lp2", "lp16"], "base, large, lp2, lp4, lp8, lp16, lp256f")
    shots: int = _setting(16, "training images of each class", limits=(1, inf))
    seeds: list[int] = _setting([1, 2, 3, 4, 5], "one trial of each variant for each seed", int, (0, inf))
    epochs: int = _setting(100, "passes over the training images", limits=(1, inf))
    batch_size: int = _setting(32, "images of a training step, over all processes", limits=(1, inf))
    lr: float = _setting(1e-4, "peak learning rate of AdamW", limits=(0, inf))
    weight_decay: float = _setting(0.05, "weight decay; never of norms, biases and masks", limits=(0, inf))
    layer_decay: float | None = _setting(None, "learning rate of a layer over that of the next one", float, (1e-6, 1))
    warmup_epochs: int = _setting(5, "epochs of linear warm-up, at most half of all, then cosine", limits=(0, inf))
    smoothing: float = _setting(0.1, "label smoothing", limits=(0, 1))
    drop_path_rate: float | None = _setting(None, "stochastic depth, of networks that have it", float, (0, 1))
    clip_grad: float | None = _setting(None, "largest norm of the gradient", float, (0, inf))
    img_size: int | None = _setting(None, "image size, pixels; the model's own if not given", int, (1, inf))
    hflip: float = _setting(0.5, "probability of a horizontal flip", limits=(0, 1))
    crop_scale_min: float = _setting(0.35, "least area of a random crop, a fraction", limits=(0, 1))
    crop_pct: float | None = _setting(
        None, "part of the image that the test sees; the model's own if not given", float, (0.01, 1)
    )
    workers: int = _setting(0, "processes that load images", limits=(0, inf))
    save_models: bool = _setting(True, "save the trained model of each trial")
    output_dir: str = _setting("output/fewshot", "where trials and results go")

    def __post_init__(self) -> None:
        """Refuse what no run could use.

        Raises:
            ValueError: If a setting is not of its type or out of its limits.
        """
        for setting in fields(self):
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        for name in ("variants", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must name at least one, and none twice, got {values}.")

    def trial_settings(self) -> dict[str, Any]:
        """Return the settings on which a trial's result depends, but for its variant and seed.

        The number of workers is one of them: each draws its own augmentations.
        """
        elsewhere = {"variants", "seeds", "save_models", "output_dir"}
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


def _default(setting: Field[Any]) -> Any:
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


def _checked(setting: Field[Any], value: Any) -> Any:
    """Return a setting's value, numbers and lists in their type, or refuse it."""
    default = _default(setting)
    if value is None and default is None:
        return None
    if not isinstance(default, list):
        return _checked_item(setting, value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"`{setting.name}` must be a list, got {value!r}. Write [{value}] in a recipe.")
    return [_checked_item(setting, item) for item in value]


def _checked_item(setting: Field[Any], value: Any) -> Any:
    kind, limits = setting.metadata["kind"], setting.metadata["limits"]
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML takes 1e-3 for a string
        except ValueError:
            pass
    if type(value) is not kind:
        raise ValueError(f"`{setting.name}` must be of type {kind.__name__}, got {value!r}.")
    if limits and not limits[0] <= value <= limits[1]:
        raise ValueError(f"`{setting.name}` must be between {limits[0]:g} and {limits[1]:g}, got {value}.")
    return value


def _add_flag(parser: argparse.ArgumentParser, setting: Field[Any]) -> None:
    default, kind = _default(setting), setting.metadata["kind"]
    argument: dict[str, Any] = {"help": f"{setting.metadata['help']} (default: {default})"}
    if kind is bool:
        argument["action"] = argparse.BooleanOptionalAction
    elif kind is dict:
        argument.update(action=ParseKwargs, nargs="*")
    else:
        argument["type"] = kind
        if isinstance(default, list):
            argument["nargs"] = "+"
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
