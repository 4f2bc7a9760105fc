"""Load a trained network by its name or its folder."""

from pathlib import Path
from typing import Any

import timm
from timm.models import is_model, split_model_name_tag
from torch import nn

_SOURCES = ("hf-hub:", "local-dir:")


def load_network(name: str, **kwargs: Any) -> nn.Module:
    """Return a network with its trained weights.

    Args:
        name: A registered name, with or without a tag; `hf-hub:` or `local-dir:` and what timm takes after it; or a
            folder that holds a saved network, a trial's for instance.
        **kwargs: Further arguments of `timm.create_model`; `pretrained=False` for random weights.

    Raises:
        ValueError: If there is no such network, or no network in the folder.
        OSError: If it cannot be fetched.
    """
    arguments = {"pretrained": True, **kwargs}
    if name.startswith(_SOURCES) or (is_model(split_model_name_tag(name)[0]) and not Path(name).is_dir()):
        return timm.create_model(name, **arguments)
    folder = Path(name)
    if not folder.is_dir():
        raise ValueError(
            f"`name` must be a registered network, hf-hub:ORG/NAME, local-dir:FOLDER or a folder, got {name!r}. "
            "timm.list_models('lp*') lists ours."
        )
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"`name` must be a folder that holds a network, got {name!r} without config.json. A trial's folder has one "
            "if it ended well and its model was saved."
        )
    return timm.create_model(f"local-dir:{folder}", **arguments)
