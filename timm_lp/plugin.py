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
        if _is_loaded(_HOST):
            self._retire()
            if fullname.partition(".")[0] != __package__:  # importing this package registers them anyway
                _logger.warning(
                    "Another import hook found %s before timm-lp could, so timm does not know its models. "
                    "`import timm_lp` registers them.",
                    _HOST,
                )
            return None
        self._step_forward()
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

    def _step_forward(self) -> None:
        """Stand before the finders that came later, since the first one that knows a module hides it from the rest."""
        if self in sys.meta_path[1:]:
            sys.meta_path.remove(self)
            sys.meta_path.insert(0, self)

    def _retire(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _register_after(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            _logger.warning(
                "%s is loaded by %r, which has no `exec_module`, so timm does not know the models of timm-lp. "
                "`import timm_lp` after `import timm` registers them.",
                _HOST,
                loader,
            )
            return

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == _HOST:  # some loaders load many modules
                self._retire()
                _register()

        loader.exec_module = execute_and_register  # type: ignore[union-attr,method-assign]


def _is_loaded(name: str) -> bool:
    """Tell whether a module has been imported to its end."""
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _register() -> None:
    try:
        importlib.import_module("timm_lp.models")
    except Exception:  # a plugin that fails must not take `import timm` or `import torch` with it
        _logger.exception("timm-lp could not register its models with timm; `import timm_lp.models` shows why.")
