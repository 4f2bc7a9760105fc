"""Where a network's training started: what a trial records, and a model's card says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal


@dataclass(frozen=True)
class Start:
    """The weights that a training started from.

    Attributes:
        kind: "random"; "checkpoint", a file; "url", weights that timm knows the address of; "hub", a repository on the
            Hub.
        hub_id: The repository, for "hub".
        url: The address, for "url".
        file: The file's name without its folder, for "checkpoint".
        sha256: The file's, for "checkpoint"; None where it was not taken.
        license: The weights' licence as timm's configuration names it; None where it names none.
    """

    kind: Literal["random", "checkpoint", "url", "hub"]
    hub_id: str | None = None
    url: str | None = None
    file: str | None = None
    sha256: str | None = None
    license: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes that are set, as they stand in the result files."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def pretrained_start(config: Mapping[str, Any]) -> Start | None:
    """Return which weights timm loads, of those that a pretrained configuration names; None where it names none.

    Args:
        config: A model's `pretrained_cfg`.
    """
    hub_id, url, file, license = (config.get(key) for key in ("hf_hub_id", "url", "file", "license"))
    license = license if isinstance(license, str) else None  # on the Hub, anybody writes configurations
    if config.get("source") != "hf-hub":  # timm's order: a name from the Hub, tensors, a file, the Hub, an address
        if config.get("state_dict"):
            return None
        if file:
            return Start("checkpoint", file=PurePath(file).name)
    if hub_id:
        return Start("hub", hub_id=hub_id.partition("@")[0], license=license)
    if url:
        return Start("url", url=url if isinstance(url, str) else url[0], license=license)
    return None


def forbids_commerce(license: str | None) -> bool:
    """Tell whether a licence is known to forbid commercial use."""
    return license is not None and ("-nc-" in license.lower() or "noncommercial" in license.lower())
