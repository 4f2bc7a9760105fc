"""Check weights against the network that they are for, before anything large is allocated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from .config import check_config
from .errors import VerificationError, first_line
from .files import CONFIG, WEIGHTS

_DTYPES = {"F32": torch.float32, "I64": torch.int64}
_MAX_MODULES = 20_000
BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_LISTED = 3


@contextmanager
def clear_build_errors() -> Iterator[None]:
    """Say in one sentence that timm cannot load, or not run, what a configuration describes.

    Raises:
        VerificationError: Instead of timm's and torch's own.
    """
    try:
        yield
    except BUILD_ERRORS as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise VerificationError(f"{CONFIG} must say what timm can load and run, but that gives {reason}.") from error


def check_weights(folder: Path) -> None:
    """Check that the weights are those of the configured network, before anything large is allocated.

    The network is built without memory (on the meta device), and only the header of the weights is read.

    Args:
        folder: With a configuration that `check_config` accepts.

    Raises:
        VerificationError: If the network cannot be built, or names, shapes or types differ; the message says which.
    """
    config = check_config(folder)
    want = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in _build_without_memory(folder, config).items()}
    have = read_header(folder / WEIGHTS)
    problems = [f"{name} is missing" for name in want if name not in have]
    problems += [f"{name} is not of this network" for name in have if name not in want]
    problems += [
        f"{name} is {have[name][0]} {have[name][1]} instead of {want[name][0]} {want[name][1]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if problems:
        more = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        found = ", ".join(problems[:_LISTED]) + more
        raise VerificationError(f"{WEIGHTS} must hold the weights of {config['architecture']}, but {found}.")


def read_header(path: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype | str]]:
    """Return the shape and type of each tensor in a file of weights, without reading them.

    Raises:
        VerificationError: If it is no whole safetensors file.
    """
    if not path.is_file():
        raise VerificationError(f"there is no {path.name}.")
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
            return timm.create_model(f"local-dir:{folder}", pretrained=False).state_dict()
    except BUILD_ERRORS as error:
        raise VerificationError(
            f"{CONFIG} must say what timm can build a network from, but {config['architecture']} with the arguments "
            f"{config.get('model_args', {})} gives {type(error).__name__}: {error}."
        ) from error
    finally:
        handle.remove()
