"""Names of variants of any network that timm knows: registered when they are asked for, so that lists stay short.

This replaces private tables of `timm.models._registry`. Where timm does not have them any more, the paper's networks
are registered as before, and others have to be converted by `lp_convert`.
"""

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from timm.models import register_model, split_model_name_tag

_logger = logging.getLogger(__name__)

_Register = Callable[[str], None]

_registry: Any = sys.modules.get("timm.models._registry")
_ENTRYPOINTS = "_model_entrypoints"  # which decides whether there is such a network


def _is_being_registered() -> bool:
    """Tell whether timm asks for a name only to see that it is new, as for a network of the user's with such a name."""
    return sys._getframe(2).f_code is register_model.__code__


class _Registry(dict[str, Any]):
    """A dictionary of timm's registry that lets a name be registered when it is first asked for."""

    def __init__(self, content: dict[str, Any], register: _Register) -> None:
        super().__init__(content)
        self._register = register

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and isinstance(name, str) and not _is_being_registered():
            self._register(split_model_name_tag(name)[0])
        return super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise KeyError(name)


class _Names(set[str]):
    """A set of timm's registry that does so."""

    def __init__(self, content: set[str], register: _Register) -> None:
        super().__init__(content)
        self._register = register

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and isinstance(name, str):
            self._register(split_model_name_tag(name)[0])
        return super().__contains__(name)

    def __reduce__(self) -> tuple[Any, ...]:  # its copies are plain
        return set, ([*self],)


# What timm looks a name up in.
_TABLES: dict[str, tuple[type, Callable[[Any, _Register], Any]]] = {
    **dict.fromkeys((_ENTRYPOINTS, "_model_pretrained_cfgs", "_model_default_cfgs"), (dict, _Registry)),
    "_model_has_pretrained": (set, _Names),
}


def register_when_asked(register: _Register) -> None:
    """Let timm's registry ask for names that it does not know; safe to call twice.

    Args:
        register: Registers a name if it can; it may ask the registry for other names.
    """
    tables = {name: getattr(_registry, name, None) for name in _TABLES}
    if not all(type(content) in _TABLES[name] for name, content in tables.items()):
        _logger.warning("This timm keeps its models elsewhere, so that it knows the paper's networks with masks alone.")
        return
    lock = threading.RLock()

    def ask(name: str) -> None:
        with lock:
            if not dict.__contains__(getattr(_registry, _ENTRYPOINTS), name):
                register(name)

    for name, content in tables.items():
        plain, asking = _TABLES[name]
        if type(content) is plain:
            setattr(_registry, name, asking(content, ask))
