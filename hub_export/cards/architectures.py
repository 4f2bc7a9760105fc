"""A card for each registered architecture: `timm-lp-hub cards` writes them into `model_cards/`.

Nothing in them is measured here: parameters and multiply-accumulates are counted on the meta device, and the accuracies
are the paper's.
"""

import re
from collections import Counter
from itertools import compress
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import ModelCardData
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg
from torch import nn
from tqdm.auto import tqdm

from timm_lp import lp_merge
from timm_lp.layers import LpConv2d
from timm_lp.models import ARCHITECTURES
from timm_lp.models.complexity import count_macs, count_parameters
from timm_lp.models.small_stem import SMALL_STEMS
from timm_lp.variants import BASE, VARIANTS

from .templates import BASE_SUMMARY, TAG, architecture_facts, by, giga, render, table

CARDS = Path("model_cards")  # of a clone
_INPUT_SIZE = (3, 224, 224)  # of an image that is counted, unless the network is for smaller ones
_NUM_CLASSES = 1000
_TITLE = re.compile(r"\A---\n.*?^---\n\n# Lp-convolutions in ", re.MULTILINE | re.DOTALL)  # how the template begins
_WEIGHTS_SECTION = re.compile(r"^## Base weights$.*?(?=^## )", re.MULTILINE | re.DOTALL)


def render_architecture_card(name: str) -> str:
    """Return the card of an architecture, as Markdown.

    Args:
        name: Name of the base network, `resnet18` for instance.
    """
    facts = architecture_facts()
    base, large = _build(name), _build(f"large_{name}")
    lp = _build(f"lp2_{name}", preserve=False)  # what is only counted needs no division by masks
    kernels = _kernels(base, lp)
    input_size = _input_size(name)
    weights = {tag: cfg for tag, cfg in get_arch_pretrained_cfgs(name).items() if cfg.has_weights}
    return render(
        "architecture",
        ModelCardData(
            library_name="timm",
            pipeline_tag="image-classification",
            tags=["image-classification", "timm", TAG],
        ),
        name=name,
        **facts["architectures"][name],
        small_stem=SMALL_STEMS[name].name if name in SMALL_STEMS else None,
        enlarged=any(before != after for before, after in kernels),
        num_classes=_NUM_CLASSES,
        image_size=by(input_size[1:]),
        variants_table=_variants_table(name, base, large, lp, input_size),
        kernels_table=_kernels_table(kernels),
        paper=_paper(name, facts["paper"]),
        weights=weights,
        default_weights=_default_weights(name),
        weights_table=_weights_table(weights),
        timm_version=timm.__version__,
    )


def write_cards(folder: Path = CARDS) -> None:
    """Write the cards of all architectures into a folder, and delete those of others."""
    for architecture in tqdm(ARCHITECTURES, desc="cards", unit="card"):
        (folder / f"{architecture.name}.md").write_text(render_architecture_card(architecture.name), encoding="utf-8")
    for path in orphans(folder):
        path.unlink()


def orphans(folder: Path = CARDS) -> list[Path]:
    """Return the cards in a folder that belong to no registered architecture; other Markdown files are no cards."""
    known = {architecture.name for architecture in ARCHITECTURES}
    return sorted(path for path in folder.glob("*.md") if path.stem not in known and _is_card(path))


def _is_card(path: Path) -> bool:
    return _TITLE.search(path.read_text(encoding="utf-8", errors="replace")) is not None


def is_current(name: str, folder: Path = CARDS) -> bool:
    """Tell whether an architecture's card in a folder is what would be written now.

    Where it was written with another version of timm, the list of timm's weights does not count.

    Args:
        name: Name of the base network.
        folder: Where the cards are.
    """
    path = folder / f"{name}.md"
    if not path.is_file():
        return False
    written, rendered = path.read_text(encoding="utf-8"), render_architecture_card(name)
    if f"timm {timm.__version__} knows" not in written:
        written, rendered = (_WEIGHTS_SECTION.sub("", text) for text in (written, rendered))
    return written == rendered


def stale_cards(folder: Path = CARDS) -> list[str]:
    """Return the names of the cards in a folder that are missing, not current, or of no registered architecture."""
    stale = [architecture.name for architecture in ARCHITECTURES if not is_current(architecture.name, folder)]
    return stale + [path.stem for path in orphans(folder)]


def _build(name: str, **arguments: Any) -> nn.Module:
    return timm.create_model(name, num_classes=_NUM_CLASSES, device="meta", **arguments).eval()


def _input_size(name: str) -> tuple[int, ...]:
    cfg: Any = get_pretrained_cfg(name)
    return min(_INPUT_SIZE, tuple(cfg.input_size))


def _variants_table(name: str, base: nn.Module, large: nn.Module, lp: nn.Module, input_size: tuple[int, ...]) -> str:
    """Return names, parameters and multiply-accumulates; p changes neither."""
    masks = sum(layer.C.numel() + layer.log2p.numel() for layer in lp.modules() if isinstance(layer, LpConv2d))
    merged = lp_merge(lp)
    macs, base_macs, merged_macs = (giga(count_macs(network, input_size)) for network in (large, base, merged))
    rows = [(f"`{name}`", BASE_SUMMARY, base, 0, base_macs)]
    for variant in VARIANTS:
        network, count = (lp, masks) if variant.masked else (large, 0)
        rows.append((f"`{variant.prefix}_{name}`", variant.summary, network, count, macs))  # the masks add none
    rows.append(("merged", "any `lp` network with its masks folded in", merged, 0, merged_macs))
    lines = [(*what, f"{count_parameters(network):,}", f"{count:,}", macs) for *what, network, count, macs in rows]
    return table(("name", "what", "parameters", "mask parameters", "multiply-accumulates"), lines, left=2)


def _kernels(base: nn.Module, lp: nn.Module) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return how many layers have which kernel before and after conversion."""
    before = dict(base.named_modules())
    layers = [(before[fqn], layer) for fqn, layer in lp.named_modules() if isinstance(layer, LpConv2d)]
    return Counter((conv.kernel_size, layer.kernel_size) for conv, layer in layers if isinstance(conv, nn.Conv2d))


def _kernels_table(kernels: Counter[tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    rows = [(by(before), by(after), count) for (before, after), count in sorted(kernels.items(), reverse=True)]
    return table(("kernel before", "with Lp-convolution", "layers"), rows)


def _paper(name: str, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the paper's figures for an architecture, table by table."""
    return [
        {"table": entry["table"], "caption": entry["caption"], "figures": _figures(name, entry)}
        for entry in tables
        if name in entry["figures"]
    ]


def _figures(name: str, entry: dict[str, Any]) -> str:
    """Return an architecture's rows of one of the paper's tables, without the columns that it has no figures for."""
    rows = entry["figures"][name]
    measured = [any(values[i] is not None for values in rows.values()) for i in range(len(entry["columns"]))]
    lines = [
        (f"`{name}`" if variant == BASE else f"`{variant}_{name}`", *compress(values, measured))
        for variant, values in rows.items()
    ]
    return table(("network", *compress(entry["columns"], measured)), lines)


def _weights_table(weights: dict[str, Any]) -> str:
    rows = [(_source(cfg), cfg.license or "not stated", by(cfg.input_size[1:])) for cfg in weights.values()]
    return table(("weights", "licence", "image (pixels)"), rows, left=2) if rows else ""


def _default_weights(name: str) -> str:
    cfg: Any = get_pretrained_cfg(name)
    return f"{_source(cfg)} ({cfg.license or 'licence not stated'})"


def _source(cfg: Any) -> str:
    """Return a link to weights: their repository, or where their file is from."""
    if cfg.hf_hub_id:
        return f"[{cfg.hf_hub_id}](https://huggingface.co/{cfg.hf_hub_id})"
    return f"[{cfg.architecture}.{cfg.tag}]({cfg.origin_url})"
