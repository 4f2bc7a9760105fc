"""Say it when timm saves a network that nothing builds again from what was saved.

timm saves any network whose configuration has a name. Whether that name, with the noted arguments, gives the network is
seen when it is loaded, which may be long after its training.
"""

import functools
import logging
from pathlib import Path
from typing import Any

import torch
from timm.models import create_model, save_for_hf
from torch import nn

from ..layers import LpConv2d
from ..reporting import listed
from ..variants import BASE
from .host import FOLDER, stand_in
from .variants import split_name

_logger = logging.getLogger(__name__)



def check_what_timm_saves() -> None:
    """Let timm's `save_for_hf`, which its `push_to_hf_hub` calls, check networks of ours; safe to call twice."""
    stand_in("save_for_hf", save_for_hf, _save_for_hf)


def what_differs(model: nn.Module, folder: str | Path) -> str | None:
    """Return how the network that timm builds of a folder's configuration differs from the one that was saved there.

    The network is built without memory (on the meta device). What counts is what the weights mean: their names and
    shapes, and how each convolution is computed.

    Args:
        model: The network that was saved.
        folder: The folder.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            again = create_model(f"{FOLDER}{folder}")
    except Exception as error:  # a network's code may raise anything
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    have, want = _layout(model), _layout(again)
    differ = [key for key in {**want, **have} if have.get(key) != want.get(key)]
    if not differ:
        return None
    return f"it has another {listed(differ)}"


def _layout(model: nn.Module) -> dict[str, Any]:
    layout: dict[str, Any] = {key: tensor.shape for key, tensor in model.state_dict().items()}
    convs = {fqn: module for fqn, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    return layout | {fqn: nn.Conv2d.extra_repr(conv) for fqn, conv in convs.items()}


@functools.wraps(save_for_hf)
def _save_for_hf(model: nn.Module, save_directory: Any, *args: Any, **kwargs: Any) -> None:
    save_for_hf(model, save_directory, *args, **kwargs)
    if _is_ours(model) and (difference := what_differs(model, save_directory)):
        is_noted = hasattr(model, "lp_conversion")
        _logger.warning(
            "timm.create_model cannot build the %s again that is saved in %s: %s. Build it as you did%s, and load the "
            "weights.",
            type(model).__name__,
            save_directory,
            difference,
            ", convert it by `lp_convert(network, conversion=...)`, which config.json holds" if is_noted else "",
        )


def _is_ours(model: nn.Module) -> bool:
    config: Any = model.pretrained_cfg
    is_named = split_name(config.get("architecture") or "")[1] != BASE
    return is_named or any(isinstance(module, LpConv2d) for module in model.modules())
