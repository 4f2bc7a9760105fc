"""The model zoo's hub: models to verified folders and repositories, and the cards that describe them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .download import pull
    from .errors import HubError, VerificationError
    from .listing import list_networks
    from .staging import stage
    from .upload import push
    from .verification import verify

__all__ = ["HubError", "VerificationError", "list_networks", "pull", "push", "stage", "verify"]

_HOMES = {
    "HubError": ".errors",
    "VerificationError": ".errors",
    "list_networks": ".listing",
    "pull": ".download",
    "push": ".upload",
    "stage": ".staging",
    "verify": ".verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
