"""A real Hub on loopback, for tests and as an offline demo (`python -m tests.hub_server`)."""

from .faults import Fault
from .server import HubServer, environment, serve

__all__ = ["Fault", "HubServer", "environment", "serve"]
