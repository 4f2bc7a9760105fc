"""Where a model's weights started from, and under which licence that puts it."""

from dataclasses import dataclass
from typing import Any

from timm.models import get_pretrained_cfg
from torch import nn

from timm_lp.start import Start, pretrained_start

_HUB = "https://huggingface.co/"
# The Hub's own identifiers among the licences that timm names; others are "other" there, with a name and a link.
_HUB_LICENSES = {"apache-2.0", "apple-amlr", "apple-ascl", "bsd-3-clause", "cc-by-nc-4.0", "gemma", "mit"}
_UNKNOWN = "unknown"  # the Hub's identifier for a licence that nobody knows


@dataclass(frozen=True)
class BaseWeights:
    """The weights that a model's training started from.

    Attributes:
        start: What they are, None where that is not known.
        recorded: Whether the training recorded them; otherwise only the model's configuration names them.
    """

    start: Start | None
    recorded: bool

    @property
    def kind(self) -> str | None:
        """The start's kind, None where it is not known."""
        return None if self.start is None else self.start.kind

    @property
    def hub_id(self) -> str | None:
        """Their repository on the Hub if the training recorded one."""
        return self.start.hub_id if self.start and self.recorded else None

    @property
    def url(self) -> str | None:
        """Where they are, if they are on the Hub or at an address."""
        if self.start is None:
            return None
        return _HUB + self.start.hub_id if self.start.hub_id else self.start.url

    @property
    def license(self) -> str | None:
        """Their licence, None where it is not known."""
        license = self.start.license if self.start else None
        return None if license == _UNKNOWN else license

    @property
    def non_commercial(self) -> bool:
        """Whether the licence is known to forbid commercial use."""
        return self.license is not None and ("-nc-" in self.license or "noncommercial" in self.license)

    def license_metadata(self) -> dict[str, str]:
        """Return the licence as the Hub's metadata names it, none where the weights inherit none."""
        if self.kind == "random":
            return {}
        if self.license is None:
            return {"license": _UNKNOWN}
        if self.license in _HUB_LICENSES:
            return {"license": self.license}
        link = {"license_link": self.url} if self.url else {}
        return {"license": "other", "license_name": self.license, **link}


def base_weights(model: nn.Module, start: Start | None) -> BaseWeights:
    """Return where a model's weights started from.

    Args:
        model: A timm model.
        start: What its training recorded, None where it recorded nothing: then the model's configuration counts.
    """
    if start is not None:
        return BaseWeights(start, recorded=True)
    config: Any = model.pretrained_cfg or {}
    if config.get("source") == "local-dir":  # the folder that the model itself is in
        config = {key: value for key, value in config.items() if key not in ("source", "file")}
    named = any(config.get(key) for key in ("hf_hub_id", "file", "state_dict"))
    tagged = None if named else _tagged_config(config)
    return BaseWeights(pretrained_start(tagged or config), recorded=False)


def _tagged_config(config: Any) -> dict[str, Any] | None:
    """Return the configuration of the weights that a tag names, None where timm knows none by it."""
    if not config.get("tag"):
        return None
    try:
        known = get_pretrained_cfg(f"{config.get('architecture')}.{config['tag']}")
    except RuntimeError:  # what timm raises for a tag that it does not have
        return None
    return known.to_dict() if known else None
