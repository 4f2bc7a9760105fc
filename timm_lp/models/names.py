"""Names of variants of any network that timm knows: registered when they are asked for, so that lists stay short.

This replaces private dictionaries of `timm.models._registry`. Where timm does not have them any more, the paper's
networks are registered as before, and others have to be converted by `lp_convert`.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from timm.models import _registry, split_model_name_tag

_logger = logging.getLogger(__name__)

# What timm looks a name up in; the first decides whether there is such a network.
_ENTRYPOINTS = "_model_entrypoints"
_TABLES = (_ENTRYPOINTS, "_model_pretrained_cfgs", "_model_default_cfgs")


class _Registry(dict[str, Any]):
    """A dictionary of timm's registry that lets a name be registered when it is first asked for."""

    def __init__(self, content: dict[str, Any], register: Callable[[str], None]) -> None:
        super().__init__(content)
        self._register = register

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and isinstance(name, str):
            self._register(split_model_name_tag(name)[0])
        return super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise KeyError(name)


def register_when_asked(register: Callable[[str], None]) -> None:
    """Let timm's registry ask for names that it does not know; safe to call twice.

    Args:
        register: Registers a name if it can; it may ask the registry for other names.
    """
    tables = {table: getattr(_registry, table, None) for table in _TABLES}
    if not all(type(content) in (dict, _Registry) for content in tables.values()):
        _logger.warning("This timm keeps its models elsewhere, so that it knows the paper's networks with masks alone.")
        return
    lock, pending = threading.RLock(), set[str]()

    def ask(name: str) -> None:
        with lock:
            is_registered = dict.__contains__(getattr(_registry, _ENTRYPOINTS), name)
            if is_registered or name in pending:  # `register` itself asks whether the name is new
                return
            pending.add(name)
            try:
                register(name)
            finally:
                pending.discard(name)

    for table, content in tables.items():
        if type(content) is dict:
            setattr(_registry, table, _Registry(content, ask))
