"""The model zoo's hub: models to verified folders and repositories, and the cards that describe them."""

from .download import pull
from .errors import HubError, VerificationError
from .listing import list_networks
from .staging import stage
from .upload import push
from .verification import verify

__all__ = ["HubError", "VerificationError", "list_networks", "pull", "push", "stage", "verify"]
