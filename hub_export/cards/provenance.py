"""Where a model's weights started from, and which licence that puts it under."""

import re
from dataclasses import dataclass
from typing import Any

from timm.models import get_pretrained_cfg
from torch import nn

from timm_lp.start import Start, pretrained_start
from timm_lp.variants import PAPER, REINIT, variant_prefix

from .templates import one_line

_HUB = "https://huggingface.co/"
# The Hub's identifiers of licences; others are "other" there, with a name and a link.
_HUB_LICENSES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr lppl-1.3c mit mpl-2.0
    ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
    """.split()
)
_NO_LICENSE = "unknown"  # how timm and the Hub call a licence that nobody knows
_LICENSE = re.compile(r"\w[\w.+-]*")
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# How a variant of the benchmark starts that does not start as the base network's function.
_STARTS = {
    PAPER: ", in kernels that the masks damped",
    REINIT: ", but for the enlarged kernels, which started at random",
}


@dataclass(frozen=True)
class BaseWeights:
    """The weights that a model's training started from.

    Attributes:
        start: What they are, None where that is not known.
        recorded: Whether the training recorded them; otherwise only the model's configuration names them.
        stated_license: The model's own licence, where its publisher states one.
        stated_model: The repository of its base model on the Hub, where its publisher states one.
    """

    start: Start | None
    recorded: bool
    stated_license: str | None = None
    stated_model: str | None = None

    @property
    def kind(self) -> str | None:
        """The start's kind, None where it is not known."""
        return None if self.start is None else self.start.kind

    @property
    def base_model(self) -> str | None:
        """The repository of the base model on the Hub, None unless it was stated or recorded."""
        return self.stated_model or (self.start.hub_id if self.start and self.recorded else None)

    @property
    def url(self) -> str | None:
        """Where the weights of the start are, if they are on the Hub or at an address."""
        if self.start is None:
            return None
        return hub_url(self.start.hub_id) if self.start.hub_id else self.start.url

    @property
    def license(self) -> str | None:
        """The licence of the weights of the start, None where it is not known."""
        license = self.start.license if self.start else None
        return None if license == _NO_LICENSE else license

    @property
    def own_license(self) -> str | None:
        """The model's own licence: stated, or inherited from weights that the training recorded; else None."""
        return self.stated_license or (self.license if self.recorded else None)

    def license_metadata(self) -> dict[str, str]:
        """Return the model's own licence as the Hub's metadata names it; nothing where none is known."""
        license = self.own_license
        if license is None:
            return {}
        if license.lower() in _HUB_LICENSES:
            return {"license": license.lower()}
        link = {"license_link": self.url} if self.url and not self.stated_license else {}
        return {"license": "other", "license_name": license, **link}


def hub_url(repo_id: str) -> str:
    """Return the address of a repository on the Hub."""
    return _HUB + repo_id


def base_weights(
    model: nn.Module, start: Start | None, license: str | None = None, base_model: str | None = None
) -> BaseWeights:
    """Return where a model's weights started from.

    Args:
        model: A timm model.
        start: What its training recorded, None where it recorded nothing: then the model's configuration counts.
        license: The model's own licence as its publisher states it, `mit` for instance; or None.
        base_model: The repository of its base model as its publisher states it, `owner/name`; or None.

    Raises:
        ValueError: If `license` is no identifier, or `base_model` no repository's name.
    """
    if license is not None and not (isinstance(license, str) and _LICENSE.fullmatch(license)):
        raise ValueError(
            f"`license` must be an identifier without spaces, got {license!r}. Give one of the Hub's, 'mit' for "
            "instance, or a name such as 'my-license-1.0'."
        )
    if base_model is not None and not (isinstance(base_model, str) and _REPOSITORY.fullmatch(base_model)):
        raise ValueError(
            f"`base_model` must be a repository on the Hub, got {base_model!r}. Give 'owner/name', "
            "'timm/resnet18.a1_in1k' for instance."
        )
    if start is not None:
        return BaseWeights(start, True, license, base_model)
    config: Any = model.pretrained_cfg or {}
    if config.get("source") == "local-dir":  # the folder that the model itself is in
        config = {key: value for key, value in config.items() if key not in ("source", "file")}
    named = any(config.get(key) for key in ("hf_hub_id", "file", "state_dict"))
    tagged = None if named else _tagged_config(config)
    return BaseWeights(pretrained_start(tagged or config), False, license, base_model)


def _tagged_config(config: Any) -> dict[str, Any] | None:
    """Return the configuration of the weights that a tag names, None where timm knows none by it."""
    if not config.get("tag"):
        return None
    try:
        known = get_pretrained_cfg(f"{config.get('architecture')}.{config['tag']}")
    except RuntimeError:  # what timm raises for a tag that it does not have
        return None
    return known.to_dict() if known else None


def base_text(base: BaseWeights, variant: str | None) -> str:
    """Return where the weights started from, in words.

    Args:
        base: The weights.
        variant: Of the trial that trained the network, None where that is not known.
    """
    if base.stated_model is None:
        return _start_text(base, variant)
    stated = f"[{base.stated_model}]({hub_url(base.stated_model)}), as its publisher says"
    if not base.recorded or (base.start and base.start.hub_id == base.stated_model):
        return stated
    return f"{stated}; the training recorded: {_start_text(base, variant)}"


def _start_text(base: BaseWeights, variant: str | None) -> str:
    way = _STARTS.get((variant or "").removeprefix(variant_prefix(variant or "")), "")
    if base.start is None:
        return "not stated"
    if base.kind == "random":
        return "none, trained from random weights"
    if base.kind == "checkpoint":
        digest = f" (sha256 `{base.start.sha256}`)" if base.start.sha256 else ""
        what = f"a checkpoint file, `{one_line(base.start.file).replace('`', '')}`{digest}"
        if base.recorded:
            return f"{what}{way}; what that was trained from is not recorded"
        loaded = "whether it was loaded, and what it was trained from, is not recorded"
        return f"{what}, as the model's configuration says; {loaded}"
    link = f"[{base.start.hub_id or base.url}]({base.url})"
    if base.recorded:
        return f"{link}{way}"
    return f"{link}, as the model's configuration says; whether they were loaded is not recorded"


def licence_text(base: BaseWeights) -> str:
    """Return the model's licence, in words."""
    if base.stated_license is not None:
        differs = base.recorded and base.license not in (None, base.stated_license)
        inherited = f"; the base weights are under {one_line(base.license)}" if differs else ""
        return f"{base.stated_license}, as its publisher says{inherited}"
    if base.start is None:
        return "not known: look up what it was trained from, and under which licence that is, before you use this model"
    if base.kind == "random":
        return "not stated; none is inherited, since no base weights were used"
    if base.kind == "checkpoint":
        return (
            "not known: that of the checkpoint applies, and of what it was trained from, so look both up before you "
            "use this model"
        )
    if base.license is None:
        return "not known: the base weights' licence applies, so look it up before you use this model"
    if not base.recorded:
        return f"not stated; {one_line(base.license)} if the base weights were loaded, whose licence that is"
    return f"{one_line(base.license)}, inherited from the base weights"
