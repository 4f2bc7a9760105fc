"""config.json and model.safetensors as anybody may have written them: checked before anything large is allocated."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from timm_lp.files import parse_json
from timm_lp.models.checkpoint import read_weights, without_prefix
from timm_lp.models.sudoku import ARCHITECTURE as SUDOKU
from timm_lp.models.sudoku import create_network
from timm_lp.models.user_networks import unknown_network
from timm_lp.reporting import listed

from .errors import VerificationError, first_line
from .files import CONFIG, WEIGHTS
from .flags import NO_MODEL_ARGS

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype | str]]  # and types, by the names of the tensors

BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

_NO_WEIGHT_SOURCES = ("url", "file", "hf_hub_id", "hf_hub_filename", "state_dict", "source", "custom_load")
_MAX_CONFIG_SIZE = 2**24  # bytes
_MAX_IMAGE_SIZE = 1024  # pixels
_DTYPES = {"F32": torch.float32, "I64": torch.int64}
_MAX_MODULES = 20_000


def check_config(folder: Path) -> dict[str, Any]:
    """Return a folder's config.json if it is harmless.

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
    """Return what is wrong with a configuration, to stand after "got one"."""
    if isinstance(config, dict) and config.get("architecture") == SUDOKU:
        return None if isinstance(config.get("model_args"), dict) else "without `model_args`"
    if not isinstance(config, dict) or not isinstance(config.get("pretrained_cfg"), dict):
        return "without `pretrained_cfg`"
    architecture, arguments, source = config.get("architecture"), config.get("model_args", {}), config["pretrained_cfg"]
    if not isinstance(architecture, str) or not re.fullmatch(r"\w+", architecture) or not timm.is_model(architecture):
        return f"of {unknown_network(architecture, config)}"
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


@contextmanager
def clear_build_errors() -> Iterator[None]:
    """Say in one sentence that timm cannot load or run the network that a configuration describes.

    Raises:
        VerificationError: In place of timm's and torch's errors.
    """
    try:
        yield
    except BUILD_ERRORS as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise VerificationError(f"{CONFIG} must say what timm can load and run, but that gives {reason}.") from error


def check_weights(folder: Path, file: Path | None = None) -> None:
    """Check that the weights are those of the configured network, before anything large is allocated.

    The network is built without memory (on the meta device), and only the header of `model.safetensors` is read.

    Args:
        folder: A network's.
        file: Other weights in the folder, that torch or safetensors saved and that may be of other types; None for
            `model.safetensors`.

    Raises:
        ValueError: If the other weights cannot be read.
        VerificationError: If the configuration says what it must not, the network cannot be built, or names, shapes or
            types differ; the message says which.
    """
    config = check_config(folder)
    empty = _build_without_memory(folder, config)
    want: Shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in empty.items()}
    have = _read_header(folder / WEIGHTS) if file is None else _read_shapes(file, want)
    problems = [f"{name} is missing" for name in want if name not in have]
    problems += [f"{name} is not of this network" for name in have if name not in want]
    problems += [
        f"{name} is {have[name][0]} {have[name][1]} instead of {want[name][0]} {want[name][1]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if problems:
        weights = WEIGHTS if file is None else file.name
        raise VerificationError(f"{weights} must hold the weights of {config['architecture']}, but {listed(problems)}.")


def _read_shapes(file: Path, want: Shapes) -> Shapes:
    weights = without_prefix(read_weights(str(file)), want.keys(), str(file))
    return {name: (tuple(weight.shape), want.get(name, (None, weight.dtype))[1]) for name, weight in weights.items()}


def _read_header(path: Path) -> Shapes:
    """Return the shape and type of each tensor in a file of weights, without reading them."""
    if not path.is_file():
        raise VerificationError(f"there is no {path.name}, which timm saves with safe_serialization=True.")
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {
                name: (tuple(view.get_shape()), _DTYPES.get(view.get_dtype(), view.get_dtype()))
                for name, view in slices.items()
            }
    except SafetensorError as error:
        raise VerificationError(f"{path.name} is not a whole safetensors file: {error}.") from error


def _build_without_memory(folder: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    count = 0

    def stop_when_huge(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > _MAX_MODULES:
            raise OverflowError(f"more than {_MAX_MODULES} layers")

    handle = register_module_module_registration_hook(stop_when_huge)
    try:
        with torch.device("meta"):
            if config["architecture"] == SUDOKU:
                return create_network(**config["model_args"]).state_dict()
            return timm.create_model(f"local-dir:{folder}", pretrained=False).state_dict()
    except BUILD_ERRORS as error:
        raise VerificationError(
            f"{CONFIG} must say what timm can build a network from, but {config['architecture']} with the arguments "
            f"{config.get('model_args', {})} gives {type(error).__name__}: {error}."
        ) from error
    finally:
        handle.remove()
