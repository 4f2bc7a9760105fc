"""What the parts of a model's card say."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from torch import nn

from timm_lp import lp_merge
from timm_lp.layers import LpConv2d

from .complexity import count_macs, count_parameters, to_meta
from .evaluation import Evaluation
from .mask_report import MaskStatistics, Spread
from .naming import ModelName
from .provenance import BaseWeights
from .templates import PAPER_URL, architecture_facts, one_line, table

_PAPER = f"[Kwon et al., ICLR 2025]({PAPER_URL})"


def title(name: ModelName, merged: bool, own: Sequence[Evaluation]) -> str:
    """Return the card's heading: the model, and what it was trained on."""
    settings = list(dict.fromkeys(evaluation.setting for evaluation in own))
    trained = f": {'; '.join(settings)}" if settings else ""
    return f"{name.name}{' (merged)' if merged else ''}{trained}"


def description(name: ModelName, merged: bool, own: Sequence[Evaluation]) -> str:
    """Return what the model is, in a few sentences."""
    network = architecture_facts()["architectures"][name.architecture]
    base = f"[{network['title']}]({network['source']['url']})"
    if name.variant == "base":
        text = f"{base} as it is, without Lp-convolutions: what those with them are compared with."
    elif name.variant == "large" and not merged:
        text = f"{base} with the large kernels of {_PAPER}, but without its masks: what the masks are compared with."
    else:
        grown = "made about twice as large and " if name.enlarged else ""
        text = (
            f"{base} with Lp-convolutions ({_PAPER}): each kernel of its feature extractor is {grown}multiplied by a "
            "smooth mask, one for each output channel, whose shape and exponent p are parameters."
        )
    if merged:
        text += " Here the masks are folded into plain convolutions, for deployment; they cannot be trained further."
    best = [f"{e.mean:.1f} % on {e.setting}" for e in own if e.metric == "top1" and e.mean is not None]
    return f"{text} Top-1: {', '.join(best)} (mean over seeds, see below)." if best else text


def facts(model: Any, name: ModelName, merged: bool, base: BaseWeights, input_size: tuple[int, ...]) -> dict[str, str]:
    """Return the model's properties, as text by name."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    loads_as, what = (f"large_{name.architecture}", f"{name.name}, merged") if merged else (name.name, name.summary)
    lines = {"Architecture": f"`{loads_as}` in timm's registry, after timm-lp is installed ({what})"}
    if layers:
        sizes = Counter(layer.kernel_size for layer in layers)
        kernels = ", ".join(f"{count} of {by(size)}" for size, count in sorted(sizes.items(), reverse=True))
        lines["Lp-convolutions"] = f"{len(layers)} ({kernels} pixels)"
    if layers and not merged:
        starts = sorted({layer.p_init for layer in layers})
        frozen = not any(layer.log2p.requires_grad for layer in layers)
        ends = Spread.over(layer.p for layer in layers)
        start = ", ".join(f"{p:g}" for p in starts)
        unmoved = frozen or str(ends) == start
        lines["Exponent p"] = f"{start}{', frozen' if frozen else ''}" if unmoved else f"started at {start}, now {ends}"
    lines["Classes"] = str(model.num_classes) if model.num_classes else "none: the model returns features"
    lines["Images"] = f"{input_size[0]} channels, {by(input_size[1:])} pixels"
    lines["Base weights"] = _base_text(base)
    lines["Licence"] = _licence_text(base)
    return lines


def sizes(model: nn.Module, merged: bool, input_size: tuple[int, ...]) -> str:
    """Return parameters and multiply-accumulates of the forms that the model has, as a table."""
    on_meta = to_meta(model)
    if not any(isinstance(module, LpConv2d) for module in on_meta.modules()):
        forms = {"merged (this repository)" if merged else "this repository": on_meta}
    else:
        here, there = ("", " (this repository)") if merged else (" (this repository)", "")
        forms = {f"with masks{here}": on_meta, f"merged by `timm_lp.lp_merge`{there}": lp_merge(on_meta)}
    rows = [
        (form, f"{count_parameters(network):,}", giga(count_macs(network, input_size)))
        for form, network in forms.items()
    ]
    return table(("form", "parameters", "multiply-accumulates"), rows)


def results_table(evaluations: Sequence[Evaluation]) -> str:
    """Return all results by seed, their mean and spread, as a table; empty where there are none."""
    if not evaluations:
        return ""
    seeds = list(dict.fromkeys(seed for evaluation in evaluations for seed in evaluation.by_seed))
    compares = len({evaluation.variant for evaluation in evaluations}) > 1
    header = ["", *(["variant"] if compares else []), *(f"seed {seed}" for seed in seeds)]
    rows = [
        [
            f"{e.setting}: {e.label}",
            *([e.variant] if compares else []),
            *(_percent(e.by_seed[seed], "failed") if seed in e.by_seed else "" for seed in seeds),
            _percent(e.mean, "-"),
            _percent(e.std, "-"),
        ]
        for e in evaluations
    ]
    return table([*header, "mean", "std"], rows, left=2 if compares else 1)


def results_note(own: Sequence[Evaluation]) -> str:
    """Return what the table of results needs to be understood."""
    tested = {
        e.dataset["name"]: f"{e.dataset['name']}: {e.num_test:,} images of its {e.dataset.get('split') or 'test'} split"
        for e in own
        if e.num_test is not None
    }
    revisions = {e.hub_dataset: e.dataset["revision"] for e in own if e.hub_dataset and e.dataset.get("revision")}
    pinned = [f"[{id}](https://huggingface.co/datasets/{id}) at `{revision}`" for id, revision in revisions.items()]
    note = [
        *(["Tested on " + "; ".join(tested.values()) + "."] if tested else []),
        *(["Data: " + "; ".join(pinned) + "."] if pinned else []),
        "Each seed is a training run of its own, and std their sample standard deviation; the weights here are those "
        "of one run.",
    ]
    return "\n" + " ".join(note)


def settings(recipe: dict[str, Any]) -> str:
    """Return the recipe's settings as YAML, one on a line, those that are null left out."""
    given = {key: value for key, value in (recipe.get("settings") or {}).items() if value is not None}
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())


def speed_table(name: ModelName, speed: dict[str, Any] | None) -> str:
    """Return the measured times of this network in its forms as a table; empty where none was measured."""
    cases = [case for case in (speed or {}).get("results", []) if case["name"].startswith(f"{name.name},")]
    columns = [("training", "lp"), ("evaluation", "lp"), ("evaluation", "merged")]
    rows = [(case["name"], *(_median(case[mode].get(form)) for mode, form in columns)) for case in cases]
    header = ("case", "training step (ms)", "evaluation (ms)", "evaluation, merged (ms)")
    return table(header, rows) if rows else ""


def speed_note(speed: dict[str, Any] | None) -> str:
    """Return what the measured times depend on."""
    if not speed:
        return ""
    machine = speed["machine"]
    return (
        f"Medians of {speed['runs']} runs of `python -m timm_lp.bench` on {machine['device']}, "
        f"{machine['threads']} threads, torch {machine['torch']}."
    )


def masks_note(model: nn.Module) -> str:
    """Return how far the masks are from their start, in words."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    p = Spread.over(layer.p / layer.p_init for layer in layers)
    sigma = Spread.over(layer.sigma / layer.sigma.new_tensor(layer.sigma_init) for layer in layers)
    count = sum(layer.out_channels for layer in layers)
    text = (
        f"Each of the {count:,} masks has an exponent p (2 is a Gaussian, 16 almost a box) and a width sigma along the "
        "kernel's height and width."
    )
    if str(p) == str(sigma) == "1":
        return f"{text} They are as they start before training."
    return (
        f"{text} They are now {p} times the p that they started with (median {p.median:.3f}), and {sigma} times the "
        f"sigma (median {sigma.median:.3f})."
    )


def masks_table(statistics: Sequence[MaskStatistics]) -> str:
    """Return the masks' statistics by kernel size, as a table."""
    rows = []
    for size, group in groupby(sorted(statistics, key=lambda s: s.kernel_size, reverse=True), lambda s: s.kernel_size):
        layers = list(group)
        p = Spread(min(s.p.min for s in layers), 0, max(s.p.max for s in layers))
        sigma = Spread(min(s.sigma.min for s in layers), 0, max(s.sigma.max for s in layers))
        rows.append((by(size), len(layers), f"{sum(s.channels for s in layers):,}", p, sigma))
    return table(("kernel", "layers", "masks", "p", "sigma (pixels)"), rows) if rows else ""


def layers_table(statistics: Sequence[MaskStatistics]) -> str:
    """Return the masks' statistics layer by layer, as a table; empty where no layer's masks differ."""
    if all(s.p.min == s.p.max and s.sigma.min == s.sigma.max for s in statistics):
        return ""
    header = ("layer", "kernel", "masks", "p min", "median", "max", "sigma min (pixels)", "median", "max")
    rows = [(s.fqn, by(s.kernel_size), s.channels, *(f"{value:.3f}" for value in (*s.p, *s.sigma))) for s in statistics]
    return table(header, rows)


def label_list(names: Sequence[str]) -> str:
    """Return the classes with their indices, on one line."""
    return " · ".join(f"{index} {one_line(name)}" for index, name in enumerate(names))


def limits(num_classes: int, base: BaseWeights, own: Sequence[Evaluation]) -> list[str]:
    """Return what the model is for, and where it cannot be trusted."""
    if num_classes:
        task = (
            f"It gives each image one of {num_classes} classes, for research and as a starting point for further "
            "training. It has no class for images of anything else, and its probabilities have not been calibrated."
        )
    else:
        task = "It turns images into features, for research and as a starting point for further training."
    few = [_few_images(e.dataset["name"], e.shots, num_classes) for e in _one_per_setting(own) if e.shots is not None]
    lines = [task, *few]
    if own:
        lines.append(
            "Only the accuracy above was measured: not the robustness to other cameras, corruptions or places, and not "
            "the fairness to any group of people. Do not let it decide about people, or where errors do harm."
        )
    else:
        lines.append("No accuracy was reported with it. Measure it on your own images before you rely on it.")
    if base.known in ("stated", "configured"):
        lines.append(
            "What its base weights learned is in it too, with the biases of the images that they learned from."
        )
    if base.non_commercial:
        lines.append(f"The licence of its base weights ({base.license}) forbids commercial use, and so does its own.")
    return lines


def giga(count: int) -> str:
    """Return a large number with its unit, G or M, and four digits."""
    return f"{count / 1e9:.4g} G" if count >= 1e9 else f"{count / 1e6:.4g} M"


def by(size: Iterable[int]) -> str:
    """Return `15x15` for a size of 15 by 15."""
    return "x".join(map(str, size))


def _few_images(dataset: str, shots: int, num_classes: int) -> str:
    return (
        f"It was trained on {shots} images of each class of {dataset} ({shots * num_classes:,} at most): images unlike "
        "those are likely to be recognised worse than the results say."
    )


def _one_per_setting(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return list({evaluation.setting: evaluation for evaluation in evaluations}.values())


def _base_text(base: BaseWeights) -> str:
    link = f"[{base.hub_id or base.url}]({base.url})"
    return {
        "stated": link,
        "configured": f"{link}, as the model's configuration says; whether they were loaded is not recorded",
        "none": "none, trained from random weights",
        "unknown": "not stated",
    }[base.known]


def _licence_text(base: BaseWeights) -> str:
    if base.known == "none":
        return "not stated; none is inherited, since no base weights were used"
    if base.license is None:
        return "not known: the base weights' licence applies, so look it up before you use this model"
    return f"{base.license}, inherited from the base weights"


def _median(times: dict[str, Any] | None) -> str:
    return f"{times['median_ms']:.1f}" if times else "-"


def _percent(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.2f}"
