"""The errors of the Hub in one sentence each, and which of them are worth another try."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

_logger = logging.getLogger(__name__)

T = TypeVar("T")
_ATTEMPTS = 4
_MEANINGS = {
    401: "the Hub does not accept the token. Set HF_TOKEN, or log in with `hf auth login`",
    403: "the token may not do this. Use one with write access, or a name of your own",
    429: "the Hub asks to slow down. Try again later",
}


class HubError(RuntimeError):
    """The Hub, or the way to it, did not do what was asked."""


class VerificationError(RuntimeError):
    """Files or networks are not what they must be; nothing of them may be used."""


def transport_error(name: str = "TransportError") -> type[Exception]:
    """Return an exception of the HTTP library that the client uses, which changes with the client's version.

    Args:
        name: Its name there; `TransportError` is what all of a connection's failures are.
    """
    library = import_module(type(get_session()).__module__.partition(".")[0])
    return getattr(library, name)


def is_unreachable(error: BaseException | None) -> bool:
    """Tell whether there is no way to the Hub."""
    return isinstance(error, (OfflineModeIsEnabled, transport_error("ConnectError")))


def is_transient(error: BaseException | None) -> bool:
    """Tell whether the same request may succeed soon: the Hub stumbled, or a connection broke."""
    if isinstance(error, LocalEntryNotFoundError):  # says that nothing is cached either
        return is_transient(error.__cause__)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, transport_error()) and not is_unreachable(error)


def retry(call: Callable[[], T]) -> T:
    """Return what `call` returns, called again after a pause while its errors are transient."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return call()
        except (HfHubHTTPError, LocalEntryNotFoundError, transport_error()) as error:
            if not is_transient(error):
                raise
            _logger.warning("Attempt %d of %d failed: %s", attempt, _ATTEMPTS, first_line(error))
            time.sleep(2 ** (attempt - 1))
    return call()


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Put in front of what verification finds where that is.

    Args:
        place: A folder or a repository.

    Raises:
        VerificationError: With the place in its message.
    """
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{place}: {error}") from error


@contextmanager
def clear_errors(endpoint: str, repo_id: str, revision: str | None) -> Iterator[None]:
    """Say the client's errors in one sentence.

    Args:
        endpoint: The Hub.
        repo_id: The repository that is asked for.
        revision: Its revision, or None.

    Raises:
        HubError: Instead of the client's.
    """
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError, transport_error()) as error:
        raise HubError(_sentence(error, endpoint, repo_id, revision)) from error


def _sentence(error: BaseException, endpoint: str, repo_id: str, revision: str | None) -> str:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        if is_unreachable(error.__cause__):
            return f"{endpoint} cannot be reached, and {repo_id} is not in the cache. Check the connection."
        return _sentence(error.__cause__, endpoint, repo_id, revision)
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated. Ask for access at {endpoint}/{repo_id}, and use a token of yours."
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint} has no repository {repo_id}, or it is private. Check the name, and the token in HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no revision {revision!r}. Name a branch, a tag, or the whole hash of a commit."
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        meaning = _MEANINGS.get(status, "the Hub is in trouble. Try again later" if status >= 500 else "")
        return f"{repo_id}: {meaning or first_line(error.server_message or error)} (status {status})."
    if is_unreachable(error):
        return f"{endpoint} cannot be reached. Check the connection, and HF_ENDPOINT and HF_HUB_OFFLINE."
    return f"The connection to {endpoint} broke: {first_line(error)}. Try again."


def first_line(error: object) -> str:
    """Return an error's text up to the first line break, without the dot at its end."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
