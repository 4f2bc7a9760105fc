"""How timm learns about our models; standard library only.

timm has no plugins, but `import torch`, which timm begins with, runs the entry points of the group `torch.backends`.
Ours is `install`: it registers the models at once where timm is loaded already, or right after `timm.models` is.
"""

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_logger = logging.getLogger(__name__)

_HOST = "timm.models"


def install() -> None:
    """Make our models known to timm, now or when it is imported; safe to call twice, and never raises."""
    if _is_loaded(_HOST):
        _register()
    elif not any(isinstance(finder, _HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostFinder())


class _HostFinder(MetaPathFinder):
    """Finds `timm.models` as the other finders do, and registers our models once it has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _HOST:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._register_after(spec)
                return spec
        return None

    def _register_after(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:
            return
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register()

        loader.exec_module = execute_and_register  # type: ignore[method-assign]


def _is_loaded(name: str) -> bool:
    """Tell whether a module has been imported to its end."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _register() -> None:
    try:
        importlib.import_module("timm_lp.models")
    except Exception:  # a plugin that fails must not take `import timm` or `import torch` with it
        _logger.exception("timm-lp could not register its models with timm; `import timm_lp.models` shows why.")
