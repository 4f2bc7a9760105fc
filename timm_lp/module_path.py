"""The path of a class or function in a module, `mypackage.nets:MyNet`; standard library only."""

import os
import re
import sys
from importlib import import_module
from typing import Any

from .command import first_line

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_module_path(name: str) -> bool:
    """Tell whether a name has the form of such a path."""
    return _FORM.fullmatch(name) is not None


def name_of(path: str) -> str:
    """Return a path as a name without dots and colons: `mypackage_nets_MyNet`."""
    return re.sub(r"\W", "_", path)


def import_path(path: str) -> Any:
    """Return what a path names; a module is found in the current directory too, as `python -m` finds it.

    Raises:
        ValueError: If the module cannot be imported, or has nothing of that name.
    """
    module_name, _, name = path.partition(":")
    if not {"", os.getcwd()} & {*sys.path}:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module_name), name)
    except Exception as error:  # a module's code may raise anything
        raise ValueError(
            f"`model` must be a class or function that can be imported, got {path}: {type(error).__name__}: "
            f"{first_line(error)}. Install its package, or run this in the folder that holds it."
        ) from error
