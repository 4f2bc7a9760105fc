"""Networks to verified folders and repositories, and back, with cards that describe them."""

from typing import TYPE_CHECKING

from timm_lp.lazy import lazy_names

if TYPE_CHECKING:
    from .download import list_networks, pull
    from .errors import HubError, VerificationError
    from .run_upload import push_run
    from .staging import stage
    from .upload import push
    from .verification import verify

__all__ = ["HubError", "VerificationError", "list_networks", "pull", "push", "push_run", "stage", "verify"]

_HOMES = {
    "HubError": ".errors",
    "VerificationError": ".errors",
    "list_networks": ".download",
    "pull": ".download",
    "push": ".upload",
    "push_run": ".run_upload",
    "stage": ".staging",
    "verify": ".verification",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
