"""The cards' templates, what all cards say of the base networks, and how they write numbers."""

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from timm_lp.reporting import markdown_rows

PAPER_TITLE = "Brain-inspired Lp-Convolution Benefits Large Kernels and Aligns Better with Visual Cortex"
PAPER_URL = "https://openreview.net/forum?id=0LSAmFCc4p"

_TEXTS = {"paper_title": PAPER_TITLE, "paper_url": PAPER_URL}


def render(template: str, data: ModelCardData, **values: Any) -> str:
    """Return a card's text.

    Args:
        template: Name of a template in `model_cards`, without its ending.
        data: The metadata; its YAML is huggingface_hub's.
        **values: What the template shows.
    """
    folder = files("model_cards")
    text = (folder / f"{template}.md.jinja").read_text(encoding="utf-8")
    values["citation"] = (folder / "citation.bib").read_text(encoding="utf-8").strip()
    return str(ModelCard.from_template(data, template_str=text, **_TEXTS, **values)).rstrip() + "\n"


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
    return text.replace("|", "\\|").replace("<", "&lt;")


def giga(count: int) -> str:
    """Return a large number with its unit, G or M, and four digits."""
    return f"{count / 1e9:.4g} G" if count >= 1e9 else f"{count / 1e6:.4g} M"


def by(size: Iterable[int]) -> str:
    """Return `15x15` for a size of 15 by 15."""
    return "x".join(map(str, size))
