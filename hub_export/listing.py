"""List the networks of ours that the Hub has."""

from huggingface_hub import ModelInfo

from .download import hub_api
from .errors import clear_errors, retry

TAG = "lp-convolution"  # which the cards carry


def list_networks(author: str | None = None, *, token: str | None = None) -> list[ModelInfo]:
    """Return the repositories that were published by this package, as their cards' tags say.

    Args:
        author: Only this user's or organization's.
        token: None for the one in HF_TOKEN or from `hf auth login`; private repositories are listed with it.

    Raises:
        HubError: If the Hub does not answer.
    """
    api = hub_api(token)
    with clear_errors(api.endpoint, author or "the list", None):
        return retry(lambda: list(api.list_models(author=author, filter=TAG)))
