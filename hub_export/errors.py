"""The Hub's errors, each in one sentence, and which requests are tried again."""

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import unwrap
from traceback import walk_tb
from typing import Any, TypeVar

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import get_session, http_backoff, parse_ratelimit_headers

_logger = logging.getLogger(__name__)

T = TypeVar("T")
_ATTEMPTS = 4
_MAX_PAUSE_S = 300.0  # after which the Hub counts requests anew
_TRANSIENT = (408, 429)  # statuses, beside all from 500
_SAID_ELSEWHERE = (ConnectionError, HfHubHTTPError, LocalEntryNotFoundError)
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS)
_MEANINGS = {
    401: "the Hub does not accept the token. Set HF_TOKEN, or log in with `hf auth login`",
    403: "the token may not do this. Use one with write access, or a name of your own",
    429: "the Hub asks to slow down. Try again later",
}


class HubError(RuntimeError):
    """The Hub, or the way to it, did not do what was asked."""


class VerificationError(RuntimeError):
    """Files or networks are damaged or hostile, and must not be used."""


def transport_error(name: str = "TransportError") -> type[Exception]:
    """Return an exception of the HTTP library that the client uses, which changes with the client's version.

    Args:
        name: Its name there; `TransportError` is the base of all failures of a connection.
    """
    library = import_module(type(get_session()).__module__.partition(".")[0])
    return getattr(library, name)


def is_unreachable(error: BaseException | None) -> bool:
    """Tell whether there is no way to the Hub."""
    return isinstance(error, (OfflineModeIsEnabled, transport_error("ConnectError")))


def is_transient(error: BaseException | None) -> bool:
    """Tell whether the same request may succeed soon: the Hub stumbled, or a connection broke."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code in _TRANSIENT
    return isinstance(error, transport_error()) and not is_unreachable(error)


def retry(call: Callable[[], T]) -> T:
    """Return what `call` returns, called again after a pause while its errors are transient.

    Requests that the client repeats itself are not repeated here; a pause that the Hub asks for is made.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return call()
        except (HfHubHTTPError, transport_error()) as error:
            pause_s = _asked_pause_s(error) or 2.0 ** (attempt - 1)
            if not is_transient(error) or _repeated_by_client(error) or pause_s > _MAX_PAUSE_S:
                raise
            _logger.warning(
                "Attempt %d of %d failed: %s. The next one is in %g s.", attempt, _ATTEMPTS, first_line(error), pause_s
            )
            time.sleep(pause_s)
    return call()


def _asked_pause_s(error: BaseException) -> float | None:
    """Return how long the Hub asks to wait, seconds; None if it does not ask."""
    if not isinstance(error, HfHubHTTPError):
        return None
    headers = error.response.headers
    limit = parse_ratelimit_headers(headers)
    if error.response.status_code == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds + 1.0
    asked = headers.get("Retry-After", "").strip()
    return float(asked) if asked.isdecimal() else None


def _repeated_by_client(error: Any) -> bool:
    """Tell whether the client has repeated the failed request: then its loops are in the traceback."""
    codes = {frame.f_code for frame, _ in walk_tb(error.__traceback__)}
    if unwrap(http_get).__code__ in codes:  # which resumes after a lost connection, but not after a reset one
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code in _TRANSIENT
        return isinstance(error, (transport_error("TimeoutException"), transport_error("RemoteProtocolError")))
    request = error.response.request if isinstance(error, HfHubHTTPError) else error.request
    return unwrap(http_backoff).__code__ in codes and request.method != "HEAD"


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Put the place in front of an error of verification.

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
        HubError: In place of the client's.
    """
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError, transport_error()) as error:
        raise HubError(_sentence(error, endpoint, repo_id, revision)) from error


@contextmanager
def clear_transfer_errors(repo_id: str) -> Iterator[None]:
    """Say the errors of a transfer in one sentence; `hf_xet` raises RuntimeErrors, and OSErrors without a number.

    Args:
        repo_id: The repository.

    Raises:
        HubError: In place of these.
        OSError: If the disk is at fault.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, _SAID_ELSEWHERE) or getattr(error, "errno", None) is not None:
            raise
        if isinstance(error.__cause__, (HfHubHTTPError, transport_error())):
            raise error.__cause__ from error
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is not None and int(number[1]) in _DISK_ERRORS:
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise HubError(f"{repo_id}: the transfer failed: {first_line(error)}. Try again.") from error


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
        if (pause_s := _asked_pause_s(error)) is not None:
            meaning = meaning.replace("later", f"in {pause_s:g} s")
        return f"{repo_id}: {meaning or first_line(error.server_message or error)} (status {status})."
    if is_unreachable(error):
        return f"{endpoint} cannot be reached. Check the connection, and HF_ENDPOINT and HF_HUB_OFFLINE."
    return f"The connection to {endpoint} broke: {first_line(error)}. Try again."


def first_line(error: object) -> str:
    """Return an error's text up to the first line break, without the dot at its end."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
