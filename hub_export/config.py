"""config.json: written so that timm and transformers load it, and read as untrusted input."""

import json
import re
from pathlib import Path
from typing import Any

import timm

from timm_lp.files import parse_json

from .errors import VerificationError, first_line
from .files import CONFIG
from .flags import NO_MODEL_ARGS

_NO_WEIGHT_SOURCES = ("url", "file", "hf_hub_id", "hf_hub_filename", "state_dict", "source", "custom_load")
# What timm's configuration says of the weights that it knows, not of the network.
_OF_WEIGHTS = ("tag", "origin_url", "paper_ids", "description", "notes")
_MAX_CONFIG_SIZE = 2**24  # bytes
_MAX_IMAGE_SIZE = 1024  # pixels


def finish_config(
    path: Path, label_names: list[str] | None, dropped_args: frozenset[str], timm_weights: bool, license: str | None
) -> None:
    """Change what timm has written into what transformers loads as well, and what is true of the weights.

    Args:
        path: The config.json.
        label_names: Names of the classes, in the order of the logits; or None.
        dropped_args: Model arguments that the saved network does not take.
        timm_weights: Whether training started from the weights that timm's configuration is about.
        license: The weights' licence, None where it is not known.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    dropped = dropped_args | {"num_classes"}  # transformers passes it itself; timm takes the one at the root
    config["model_args"] = {key: value for key, value in config.get("model_args", {}).items() if key not in dropped}
    for key in ("label_names", "license", *(() if timm_weights else _OF_WEIGHTS)):
        config["pretrained_cfg"].pop(key, None)
    if license is not None:
        config["pretrained_cfg"]["license"] = license
    config.pop("label_names", None)
    if label_names is not None:
        config["label_names"] = label_names
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def check_config(folder: Path) -> dict[str, Any]:
    """Return a folder's config.json if nothing in it can do harm.

    Raises:
        VerificationError: If it is damaged, or says what it must not; the message says what.
    """
    path = folder / CONFIG
    problem = f"of {path.stat().st_size} bytes" if path.stat().st_size > _MAX_CONFIG_SIZE else None
    if problem is None:
        try:
            config = parse_json(path.read_bytes())
        except (ValueError, RecursionError) as error:
            problem = f"that is no JSON ({first_line(error)})"
        else:
            problem = _problem(config)
    if problem is not None:
        raise VerificationError(f"{CONFIG} must say what timm can build a network from, got one {problem}.")
    return config


def _problem(config: Any) -> str | None:
    """Return what is wrong with a configuration, as "got one ..." goes on."""
    if not isinstance(config, dict) or not isinstance(config.get("pretrained_cfg"), dict):
        return "without `pretrained_cfg`"
    architecture, arguments, source = config.get("architecture"), config.get("model_args", {}), config["pretrained_cfg"]
    if not isinstance(architecture, str) or not re.fullmatch(r"\w+", architecture) or not timm.is_model(architecture):
        return f"with the unknown architecture {architecture!r}"
    if type(config.get("num_classes")) is not int or not 0 <= config["num_classes"] < 2**20:
        return f"with num_classes = {config.get('num_classes')!r}"
    if not isinstance(arguments, dict):
        return f"with model_args = {arguments!r}"
    if refused := sorted(arguments.keys() & NO_MODEL_ARGS):
        return f"with the model arguments {refused}"
    if found := [key for key in _NO_WEIGHT_SOURCES if source.get(key)]:
        return f"that says where else weights are ({found[0]} = {source[found[0]]!r})"
    return _size_problem(source) or _label_problem(config)


def _size_problem(source: dict[str, Any]) -> str | None:
    size = source.get("input_size")
    if isinstance(size, list) and len(size) == 3:
        if all(type(length) is int and 0 < length <= _MAX_IMAGE_SIZE for length in size):
            return None
    return f"with input_size = {size!r}"


def _label_problem(config: dict[str, Any]) -> str | None:
    names = config.get("label_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "whose label_names are no list of names"
    return None if len(names) == config["num_classes"] else f"with {len(names)} label_names for {config['num_classes']}"
