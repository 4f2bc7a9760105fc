"""What timm calls things, and its modules, in which a function of ours stands in for one of timm's."""

import sys
from typing import Any

HUB, FOLDER = "hf-hub:", "local-dir:"  # in front of a name that `timm.create_model` takes

_HOST = "timm.models"


def stand_in(name: str, original: Any, replacement: Any, module: str = _HOST) -> None:
    """Put a function in place of one of timm's in all of timm's modules that import it by name, and in another one.

    Args:
        name: What it is called there.
        original: timm's.
        replacement: What stands in for it.
        module: The other module's name.
    """
    for module_name, found in list(sys.modules.items()):
        if module_name in (_HOST, module) or module_name.startswith(f"{_HOST}."):
            if vars(found).get(name) is original:
                setattr(found, name, replacement)
