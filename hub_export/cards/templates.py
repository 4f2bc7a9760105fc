"""The cards' templates, the names of the networks, and how cards write numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from typing import Any

import yaml
from huggingface_hub import CardData, RepoCard
from timm.models import is_model, model_entrypoint

from timm_lp.models import ARCHITECTURES
from timm_lp.models.architectures import Architecture
from timm_lp.models.user_networks import path_of
from timm_lp.models.variants import split_name
from timm_lp.reporting import markdown_rows
from timm_lp.variants import VARIANTS

BASE_SUMMARY = "the network as it is"
TAG = "lp-convolution"  # of all cards
PAPER_TITLE = "Brain-inspired Lp-Convolution Benefits Large Kernels and Aligns Better with Visual Cortex"
PAPER_URL = "https://openreview.net/forum?id=0LSAmFCc4p"

_TEXTS = {"paper_title": PAPER_TITLE, "paper_url": PAPER_URL}


def render(template: str, data: CardData, **values: Any) -> str:
    """Return a card's text.

    Args:
        template: Name of a template in `model_cards`, without its ending.
        data: The metadata; its YAML is huggingface_hub's.
        **values: What the template shows.
    """
    folder = files("model_cards")
    text = (folder / f"{template}.md.jinja").read_text(encoding="utf-8")
    values["citation"] = (folder / "citation.bib").read_text(encoding="utf-8").strip()
    return str(RepoCard.from_template(data, template_str=text, **_TEXTS, **values)).rstrip() + "\n"


@cache
def architecture_facts() -> dict[str, Any]:
    """Return the content of `model_cards/architectures.yaml`."""
    return yaml.safe_load((files("model_cards") / "architectures.yaml").read_text(encoding="utf-8"))


def table(header: Sequence[str], lines: Sequence[Sequence[Any]], *, left: int = 1) -> str:
    """Return a Markdown table of any values, each on one line; its first `left` columns are to the left."""
    return markdown_rows(header, [[one_line(value) for value in line] for line in lines], left=left)


def one_line(value: Any) -> str:
    """Return a value as text on one line that means nothing to Markdown's tables or to HTML."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def giga(count: int) -> str:
    """Return a large number with its unit, G or M, and four digits."""
    return f"{count / 1e9:.4g} G" if count >= 1e9 else f"{count / 1e6:.4g} M"


def by(size: Iterable[int]) -> str:
    """Return `15x15` for a size of 15 by 15."""
    return "x".join(map(str, size))


@dataclass(frozen=True)
class ModelName:
    """A registered name.

    Attributes:
        name: The whole, `lp2_resnet18` for instance.
        variant: Its prefix, `lp2`, or `base` where it has none.
        architecture: The base network, `resnet18`.
        enlarged: Whether the variants have larger kernels than the base network.
        frozen: Whether the variant's masks are never trained.
        summary: What the variant is, in words.
        layers: Patterns of the only layers that the variant converts; none for all of the feature extractor.
    """

    name: str
    variant: str
    architecture: str
    enlarged: bool
    frozen: bool
    summary: str
    layers: tuple[str, ...] = ()


def parse_name(name: str) -> ModelName:
    """Take a registered model's name apart.

    Args:
        name: The name, without a tag.

    Raises:
        ValueError: If timm knows no such name.
    """
    if not is_model(name):
        raise ValueError(
            f"`model` must be a network that timm.create_model builds, got {name!r}, which timm does not know. "
            "timm.models.register_model makes it known."
        )
    base, prefix = split_name(name)
    known = next((architecture for architecture in ARCHITECTURES if architecture.name == base), Architecture(base))
    variant = next((variant for variant in VARIANTS if variant.prefix == prefix), None)
    frozen = variant is not None and variant.conversion.get("trainable_mask") is False
    return ModelName(name, prefix, base, known.kernel_scale > 1, frozen, variant.summary if variant else BASE_SUMMARY)


def linked_title(architecture: str) -> str:
    """Return a base network's title with a link to its source; of a network that the paper lacks, its name."""
    if path := path_of(architecture):
        return f"`{path}`"
    facts = architecture_facts()["architectures"].get(architecture)
    return f"[{facts['title']}]({facts['source']['url']})" if facts else f"`{architecture}` of timm"


def is_ours(name: str) -> bool:
    """Tell whether timm has a registered model from this package."""
    return model_entrypoint(name).__module__.startswith("timm_lp.")


def package_url() -> str | None:
    """Return where this package is to be had, as its metadata say; None where they say nothing."""
    try:
        urls = metadata("timm-lp").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    return next((url.partition(", ")[2] for url in urls), None)
