"""Where a model's weights started from, and under which licence that puts it."""

from dataclasses import dataclass
from typing import Any, Literal

from timm.models import get_pretrained_cfg
from torch import nn

_HUB = "https://huggingface.co/"
# The Hub's own identifiers among the licences that timm names; others are "other" there, with a name and a link.
_HUB_LICENSES = {"apache-2.0", "apple-amlr", "apple-ascl", "bsd-3-clause", "cc-by-nc-4.0", "gemma", "mit", "unknown"}


@dataclass(frozen=True)
class BaseWeights:
    """The weights that a model's training started from.

    Attributes:
        known: "stated" by who publishes the model, "configured" where only the model's configuration names them,
            "none" for random weights, "unknown".
        hub_id: Their repository on the Hub, None where they are elsewhere.
        url: Where they are.
        license: Their licence as timm or their own configuration names it, None where neither does.
    """

    known: Literal["stated", "configured", "none", "unknown"]
    hub_id: str | None = None
    url: str | None = None
    license: str | None = None

    @property
    def non_commercial(self) -> bool:
        """Whether the licence is known to forbid commercial use."""
        return self.license is not None and ("-nc-" in self.license or "noncommercial" in self.license)

    def license_metadata(self) -> dict[str, str]:
        """Return the licence as the Hub's metadata names it: an unknown one is "other", never a guess."""
        if self.license is None:
            return {"license": "other"}
        if self.license in _HUB_LICENSES:
            return {"license": self.license}
        link = {"license_link": self.url} if self.url else {}
        return {"license": "other", "license_name": self.license, **link}


def base_weights(model: nn.Module, base_model: str | None, recipe: dict[str, Any]) -> BaseWeights:
    """Return where a model's weights started from.

    Args:
        model: A timm model.
        base_model: Its base weights' repository or timm name, if who publishes the model says so.
        recipe: The results' recipe; its `base_model` counts where `base_model` is None, and there null says that
            training started from random weights.
    """
    config: Any = model.pretrained_cfg or {}
    named = base_model or recipe.get("base_model")
    if named is not None:
        return _stated(named, config)
    if "base_model" in recipe:
        return BaseWeights("none")
    architecture, tag = config.get("architecture"), config.get("tag")
    source = config if config.get("hf_hub_id") or not tag else _timm_config(f"{architecture}.{tag}") or config
    hub_id, url = _location(source)
    if url is None:
        return BaseWeights("unknown")
    return BaseWeights("configured", hub_id, url, source.get("license"))


def _stated(name: str, config: Any) -> BaseWeights:
    """Return the base weights of a name, with the licence that timm or the model's configuration knows."""
    source = _timm_config(name.removeprefix("timm/"))
    if source is not None:
        hub_id, url = _location(source)
        return BaseWeights("stated", hub_id, url, source.get("license"))
    license = config.get("license") if config.get("hf_hub_id") == name else None
    return BaseWeights("stated", name, _HUB + name, license)


def _timm_config(name: str) -> dict[str, Any] | None:
    """Return the configuration of weights that timm knows, None where it knows none by that name."""
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:  # what timm raises for a tag that it does not have
        return None
    return config.to_dict() if config else None


def _location(config: Any) -> tuple[str | None, str | None]:
    """Return weights' repository on the Hub, and their address."""
    hub_id = config.get("hf_hub_id")
    return hub_id, _HUB + hub_id if hub_id else config.get("url")
