"""A model's card: the README.md of its repository."""

from typing import Any

from huggingface_hub import ModelCardData
from torch import nn

REPOSITORY = "OWNER/NAME"  # stands in a card for the repository's name, which is known when it is pushed


def render_card(
    model: nn.Module,
    *,
    merged: bool,
    label_names: list[str] | None,
    results: dict[str, Any] | None,
    base_model: str | None = None,
    masks_image: str | None = None,
) -> str:
    """Return the README.md of a model's repository."""
    metadata = ModelCardData(library_name="timm", tags=["image-classification", "timm", "lp-convolution"])
    return f"---\n{metadata.to_yaml()}\n---\n# {model.pretrained_cfg['architecture']}\n"  # type: ignore[index]


def fill_repo_id(card: str, repo_id: str) -> str:
    """Return a card with its repository's name in it."""
    return card.replace(REPOSITORY, repo_id)
