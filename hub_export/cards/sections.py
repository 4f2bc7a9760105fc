"""What the parts of a model's card say."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from timm.models import get_model_args
from torch import nn

from timm_lp import lp_merge
from timm_lp.layers import LpConv2d
from timm_lp.masks.report import percent
from timm_lp.masks.statistics import (
    BY_CHANCE,
    ELONGATED,
    NEAR,
    ORIENTED,
    LayerMasks,
    Spread,
    orientation_shares,
    share,
)
from timm_lp.models.complexity import count_macs, count_parameters, to_meta
from timm_lp.models.user_networks import path_of
from timm_lp.start import forbids_commerce
from timm_lp.trials.record import TrialRecord
from timm_lp.variants import BASE

from .evaluation import Evaluation, Trials
from .provenance import BaseWeights, base_text, licence_text
from .templates import PAPER_URL, ModelName, by, giga, is_ours, linked_title, one_line, table

_PAPER = f"[Kwon et al., ICLR 2025]({PAPER_URL})"


def title(name: ModelName, merged: bool, evaluations: Sequence[Evaluation]) -> str:
    """Return the card's heading: the model, and what it was trained on."""
    trained = f": {one_line(evaluations[0].setting)}" if evaluations else ""
    return f"{name.name}{' (merged)' if merged else ''}{trained}"


def description(
    model: nn.Module, name: ModelName, merged: bool, evaluations: Sequence[Evaluation], seed: int | None
) -> str:
    """Return what the model is, in a few sentences."""
    base, arguments = linked_title(name.architecture), get_model_args(model)
    converted = _converted(name, arguments)
    if name.variant == BASE:
        text = f"{base} as it is, without Lp-convolutions: what those with them are compared with."
    elif name.variant == "large" and not merged:
        kernels = f"the large kernels of {_PAPER}" if name.enlarged else "its own kernels"
        kernels += f" in {converted}" * bool(name.layers)
        compared = "what networks with masks are compared with"
        text = f"{base} with {kernels}, but without masks: {compared}"
        text += "." if evaluations else ", or what is left of one whose masks were folded in."
    else:
        grown = "made about twice as large and " if name.enlarged else ""
        text = (
            f"{base} with Lp-convolutions ({_PAPER}): each kernel of {converted} is {grown}multiplied by a smooth "
            "mask, one for each output channel, whose shape and exponent p are "
            f"{'fixed' if _has_frozen_masks(model, name) else 'parameters'}."
        )
    if merged or arguments.get("merged"):
        text += " Here the masks are folded into plain convolutions, for deployment; they cannot be trained further."
    best = [_top1(e, seed) for e in evaluations if e.metric == "top1" and e.values]
    return f"{text} Top-1: {', '.join(best)}, see below." if best else text


def _converted(name: ModelName, arguments: dict[str, Any]) -> str:
    """Return which layers of a network are converted, in words."""
    if "conversion" in arguments:
        return f"{len(arguments['conversion']['layers'])} of its convolutions"
    return " and ".join(f"`{layer}`" for layer in name.layers) or "its feature extractor"


def _top1(evaluation: Evaluation, seed: int | None) -> str:
    """Return the figure of the weights, and the mean and standard deviation over seeds beside it."""
    where, key = one_line(evaluation.setting), evaluation.seed_of(seed)
    value = None if key is None else evaluation.by_seed[key]
    spread = "" if evaluation.std is None else f" ± {evaluation.std:.1f}"
    mean = f"{evaluation.mean:.1f}{spread} %"
    if value is None:
        return f"{mean} on {where} ({evaluation.averaged}; that of these weights is not recorded)"
    if len(evaluation.by_seed) == 1:
        return f"{mean} on {where} ({evaluation.averaged})"
    return f"{value:.1f} % on {where} (these weights, seed {key}; {evaluation.averaged}: {mean})"


def facts(
    model: Any, name: ModelName, merged: bool, base: BaseWeights, variant: str | None, input_size: tuple[int, ...]
) -> dict[str, str]:
    """Return the model's properties, as text by name."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    loads_as, what = (f"large_{name.architecture}", f"{name.name}, merged") if merged else (name.name, name.summary)
    needed = ", after timm-lp is installed" if is_ours(loads_as) else ""
    needed += f" and `{path}` is registered" if (path := path_of(loads_as)) else ""
    lines = {"Architecture": f"`{loads_as}` in timm's registry{needed} ({what})"}
    if layers:
        sizes = Counter(layer.kernel_size for layer in layers)
        kernels = ", ".join(f"{count} of {by(size)}" for size, count in sorted(sizes.items(), reverse=True))
        lines["Lp-convolutions"] = f"{len(layers)} ({kernels} pixels)"
    if layers and not merged:
        start = ", ".join(f"{p:g}" for p in sorted({layer.p_init for layer in layers}))
        now = str(Spread.over(layer.p for layer in layers))
        frozen = ", frozen" if _has_frozen_masks(model, name) else ""
        lines["Exponent p"] = f"{now}{frozen}" if now == start else f"{now}{frozen}; new masks have {start}"
    lines["Classes"] = str(model.num_classes) if model.num_classes else "none: the model returns features"
    lines["Images"] = f"{input_size[0]} channels, {by(input_size[1:])} pixels"
    lines["Base weights"] = base_text(base, variant)
    lines["Licence"] = licence_text(base)
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
    compares = len({evaluation.trial.variant for evaluation in evaluations}) > 1
    header = ["", *(["variant"] if compares else []), *(f"seed {seed}" for seed in seeds)]
    rows = [
        [
            f"{e.setting}: {e.label}",
            *([e.trial.variant] if compares else []),
            *(_percent(e.by_seed[seed], "failed") if seed in e.by_seed else "" for seed in seeds),
            _percent(e.mean, "-"),
            _percent(e.std, "-"),
        ]
        for e in evaluations
    ]
    return table([*header, "mean", "std"], rows, left=2 if compares else 1)


def results_note(evaluations: Sequence[Evaluation], seed: int | None) -> str:
    """Return what the table of results needs to be understood."""
    tested = {e.trial.dataset.name: _tested(e.trial) for e in evaluations if e.trial.num_test is not None}
    revisions = {e.hub_dataset: e.trial.dataset.revision for e in evaluations if e.hub_dataset}
    pinned = [f"[{id}](https://huggingface.co/datasets/{id}) at `{revision}`" for id, revision in revisions.items()]
    spread = ", and std their sample standard deviation" if any(e.std is not None for e in evaluations) else ""
    run = "one run" if seed is None else f"seed {seed}"
    runs = [f"Each seed is a training run of its own{spread}; the weights here are those of {run}."]
    note = [
        *(["Tested on " + "; ".join(tested.values()) + "."] if tested else []),
        *(["Data: " + "; ".join(pinned) + "."] if pinned else []),
        *({_local(e.trial): None for e in evaluations if not e.hub_dataset}),
        *(runs if evaluations else []),
    ]
    return "\n" + " ".join(note)


def settings(trials: Trials) -> str:
    """Return the training's settings as YAML, one on a line, without those that are null."""
    given = {key: value for key, value in trials.content["recipe"]["settings"].items() if value is not None}
    return "\n".join(
        f"{key if key.isidentifier() else json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in given.items()
    )


def masks_note(layers: Sequence[LayerMasks]) -> str:
    """Return how far the masks are from new ones, in words."""
    p, sigma = Spread.over(layer.p_change for layer in layers), Spread.over(layer.sigma_change for layer in layers)
    text = (
        f"Each of the {sum(map(len, layers)):,} masks has an exponent p (2 is a Gaussian, 16 almost a box) and a width "
        "sigma along the kernel's height and width."
    )
    if all(layer.are_new for layer in layers):
        return f"{text} They are as new."
    if str(p) == str(sigma) == "1":
        return f"{text} Their p and sigma are within 0.5 % of those of new masks."
    return (
        f"{text} They have {p} times the p of new masks (median {p.median:.3f}), and {sigma} times their sigma (median "
        f"{sigma.median:.3f})."
    )


def moved_table(layers: Sequence[LayerMasks]) -> str:
    """Return what moved from the start, and what of it can be set beside biology; empty where nothing moved."""
    if all(layer.are_new for layer in layers):
        return ""
    p, moved, sigma, gamma, theta = (
        torch.cat(values)
        for values in zip(
            *((m.p, m.p_moved, m.sigma_change.flatten(), m.conformation.gamma, m.conformation.theta) for m in layers),
            strict=True,
        )
    )
    p_start = ", ".join(f"{start:g}" for start in sorted({layer.p_init for layer in layers}))
    gamma_start = Spread.of(torch.tensor([max(layer.sigma_init) / min(layer.sigma_init) for layer in layers]))
    long = f"{_median(gamma)}; {percent(share(gamma > ELONGATED))} above {ELONGATED:g}"
    rows = [
        ("p", p_start, f"{_median(p)}; {percent(share(moved))} moved", "as a tendency"),
        ("sigma over its start", "1", _median(sigma), "no: the offsets are standardised"),
        ("gamma: longest over shortest width", gamma_start, long, "no: one width is fitted"),
        (f"direction where gamma is above {ORIENTED:g}", "-", _directions(gamma, theta), "no: no figure is given"),
    ]
    return table(("masks", "at the start", "now: median (range)", "comparable with biology"), rows, left=4)


def masks_table(layers: Sequence[LayerMasks]) -> str:
    """Return the masks' p and sigma by kernel size, as a table."""
    rows = []
    for size, group in groupby(sorted(layers, key=lambda m: m.kernel_size, reverse=True), lambda m: m.kernel_size):
        same = list(group)
        p, sigma = Spread.over(layer.p for layer in same), Spread.over(layer.sigma for layer in same)
        rows.append((by(size), len(same), f"{sum(map(len, same)):,}", p, sigma))
    return table(("kernel", "layers", "masks", "p", "sigma (pixels)"), rows) if rows else ""


def layers_table(layers: Sequence[LayerMasks]) -> str:
    """Return the masks' statistics layer by layer, as a table; empty where no layer's masks differ."""
    if all(layer.are_alike for layer in layers):
        return ""
    header = (
        *("layer", "kernel", "masks", "p start", "p min", "median", "max"),
        *("sigma start (pixels)", "min", "median", "max", "gamma median", "max"),
    )
    rows = [
        (
            *(layer.fqn, by(layer.kernel_size), len(layer), f"{layer.p_init:g}"),
            *(f"{value:.3f}" for value in Spread.of(layer.p)),
            "x".join(f"{sigma:g}" for sigma in dict.fromkeys(layer.sigma_init)),
            *(f"{value:.3f}" for value in Spread.of(layer.sigma)),
            *(f"{value:.2f}" for value in Spread.of(layer.conformation.gamma)[1:]),
        )
        for layer in layers
    ]
    return table(header, rows)


def label_list(names: Sequence[str]) -> str:
    """Return the classes with their indices, on one line."""
    return " · ".join(f"{index} {one_line(name)}" for index, name in enumerate(names))


def limits(num_classes: int, base: BaseWeights, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return what the model is for, and where it cannot be trusted."""
    if num_classes:
        task = (
            f"It gives each image one of {num_classes} classes, an image of something else too, for research and as a "
            "starting point for further training. How well its probabilities are calibrated is not reported."
        )
    else:
        task = "It turns images into features, for research and as a starting point for further training."
    trial = evaluations[0].trial if evaluations else None
    lines = [task, *([_few_images(trial, num_classes)] if trial and trial.shots is not None else [])]
    if evaluations:
        lines.append(
            "Only the accuracy above is reported: not the robustness to other cameras, corruptions or places, and not "
            "the fairness to any group of people. Do not let it decide about people, or where errors do harm."
        )
    else:
        lines.append("No accuracy was reported with it. Measure it on your own images before you rely on it.")
    if base.stated_model or base.kind not in (None, "random"):
        known = base.stated_model or base.recorded
        learned = "What its base weights learned is" if known else "If they were loaded, what they learned is"
        lines.append(f"{learned} in it too, with the biases of the images that they learned from.")
    if forbids_commerce(base.license):
        so = "" if base.stated_license else f", and so does its own{'' if base.recorded else ' if they were loaded'}"
        lines.append(f"The licence of its base weights ({base.license}) forbids commercial use{so}.")
    if forbids_commerce(base.stated_license):
        lines.append(f"Its licence ({base.stated_license}) forbids commercial use.")
    return lines


def _few_images(trial: TrialRecord, num_classes: int) -> str:
    shots = trial.shots or 0
    return (
        f"It was trained on {shots} images of each class of {one_line(trial.dataset.name)} "
        f"({shots * num_classes:,} at most): images unlike those are likely to be recognised worse than "
        "the results say."
    )


def _tested(trial: TrialRecord) -> str:
    return f"{one_line(trial.dataset.name)}: {trial.num_test:,} images of its {one_line(trial.dataset.split)} split"


def _local(trial: TrialRecord) -> str:
    """Return that a data set is none of the Hub's, and what tells whether another has its contents."""
    digest = f" (sha256 of its contents: `{trial.data_sha256}`)" if trial.data_sha256.isalnum() else ""
    return f"{one_line(trial.dataset.name)} is a local data set, which was read from no repository of the Hub{digest}."


def _has_frozen_masks(model: nn.Module, name: ModelName) -> bool:
    """Tell whether a network's masks are not trained; of a merged one, whether they were not."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    if layers:
        return not any(layer.log2p.requires_grad for layer in layers)
    return name.frozen or get_model_args(model).get("trainable_mask") is False


def _percent(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.2f}"


def _median(values: torch.Tensor) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.3g} ({spread})"


def _directions(gamma: torch.Tensor, theta: torch.Tensor) -> str:
    count = int((gamma > ORIENTED).sum())
    if not count:
        return "none has one"
    horizontal, vertical = orientation_shares(gamma, theta)
    return (
        f"{count:,} have one: {percent(horizontal)} within {NEAR:g} degrees of horizontal, {percent(vertical)} of "
        f"vertical ({percent(BY_CHANCE)} each if at random)"
    )
