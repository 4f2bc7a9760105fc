"""What the parts of a model's card say."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from timm.models import get_model_args
from torch import nn

from timm_lp import lp_merge
from timm_lp.layers import LpConv2d
from timm_lp.masks.statistics import (
    Spread,
)
from timm_lp.models.complexity import count_macs, count_parameters, to_meta
from timm_lp.models.variants import BASE, PAPER, REINIT, variant_prefix

from .evaluation import Evaluation
from .naming import ModelName, is_ours
from .provenance import BaseWeights, forbids_commerce, hub_url
from .results import Recipe, Speed
from .templates import PAPER_URL, architecture_facts, by, giga, one_line, table

# How a variant of the benchmark starts that does not start as the base network's function.
_STARTS = {
    PAPER: ", in kernels that the masks damped",
    REINIT: ", but for the enlarged kernels, which started at random",
}
_PAPER = f"[Kwon et al., ICLR 2025]({PAPER_URL})"


def title(name: ModelName, merged: bool, own: Sequence[Evaluation]) -> str:
    """Return the card's heading: the model, and what it was trained on."""
    trained = f": {one_line(own[0].setting)}" if own else ""
    return f"{name.name}{' (merged)' if merged else ''}{trained}"


def description(model: nn.Module, name: ModelName, merged: bool, own: Sequence[Evaluation], seed: int | None) -> str:
    """Return what the model is, in a few sentences."""
    network = architecture_facts()["architectures"][name.architecture]
    base = f"[{network['title']}]({network['source']['url']})"
    if name.variant == BASE:
        text = f"{base} as it is, without Lp-convolutions: what those with them are compared with."
    elif name.variant == "large" and not merged:
        kernels = f"the large kernels of {_PAPER}" if name.enlarged else "its own kernels"
        compared = "what networks with masks are compared with"
        text = f"{base} with {kernels}, but without masks: {compared}"
        text += "." if own else ", or what is left of one whose masks were folded in."
    else:
        grown = "made about twice as large and " if name.enlarged else ""
        text = (
            f"{base} with Lp-convolutions ({_PAPER}): each kernel of its feature extractor is {grown}multiplied by a "
            f"smooth mask, one for each output channel, whose shape and exponent p are "
            f"{'fixed' if _has_frozen_masks(model, name) else 'parameters'}."
        )
    if merged:
        text += " Here the masks are folded into plain convolutions, for deployment; they cannot be trained further."
    best = [_top1(e, seed) for e in own if e.metric == "top1" and e.values]
    return f"{text} Top-1: {', '.join(best)}, see below." if best else text


def _top1(evaluation: Evaluation, seed: int | None) -> str:
    """Return the figure of the weights, and the mean and standard deviation over seeds beside it."""
    where, key = one_line(evaluation.setting), evaluation.seed_of(seed)
    own = None if key is None else evaluation.by_seed[key]
    spread = "" if evaluation.std is None else f" ± {evaluation.std:.1f}"
    mean = f"{evaluation.mean:.1f}{spread} %"
    if own is None:
        return f"{mean} on {where} ({evaluation.averaged}; that of these weights is not recorded)"
    if len(evaluation.by_seed) == 1:
        return f"{mean} on {where} ({evaluation.averaged})"
    return f"{own:.1f} % on {where} (these weights, seed {key}; {evaluation.averaged}: {mean})"


def facts(
    model: Any, name: ModelName, merged: bool, base: BaseWeights, recipe: Recipe, input_size: tuple[int, ...]
) -> dict[str, str]:
    """Return the model's properties, as text by name."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    loads_as, what = (f"large_{name.architecture}", f"{name.name}, merged") if merged else (name.name, name.summary)
    needed = ", after timm-lp is installed" if is_ours(loads_as) else ""
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
    lines["Base weights"] = _base_text(base, recipe.variant)
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


def results_note(own: Sequence[Evaluation], recipe: Recipe) -> str:
    """Return what the table of results needs to be understood."""
    tested = {e.dataset["name"]: _tested(e) for e in own if e.num_test is not None}
    revisions = {e.hub_dataset: e.dataset["revision"] for e in own if e.hub_dataset and e.dataset.get("revision")}
    pinned = [f"[{id}](https://huggingface.co/datasets/{id}) at `{revision}`" for id, revision in revisions.items()]
    spread = ", and std their sample standard deviation" if any(e.std is not None for e in own) else ""
    seed = "one run" if recipe.seed is None else f"seed {recipe.seed}"
    note = [
        *(["Tested on " + "; ".join(tested.values()) + "."] if tested else []),
        *(["Data: " + "; ".join(pinned) + "."] if pinned else []),
        *([f"Each seed is a training run of its own{spread}; the weights here are those of {seed}."] if own else []),
    ]
    return "\n" + " ".join(note)


def settings(recipe: Recipe, own: Sequence[Evaluation]) -> str:
    """Return the recipe's settings as YAML, one on a line, those that are null left out.

    Args:
        recipe: The recipe of all results.
        own: The model's own results; their learning rate counts.
    """
    lr = next((evaluation.lr for evaluation in own if evaluation.lr is not None), recipe.settings.get("lr"))
    given = {key: value for key, value in {**recipe.settings, "lr": lr}.items() if value is not None}
    return "\n".join(
        f"{key if key.isidentifier() else json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in given.items()
    )


def speed_table(name: ModelName, speed: Speed | None) -> str:
    """Return the measured times of the networks of this name, in their forms, as a table; empty where none are."""
    cases = {case: times for case, times in (speed.cases if speed else {}).items() if case.startswith(f"{name.name},")}
    columns = [("training", "lp"), ("evaluation", "lp"), ("evaluation", "merged")]
    rows = [(case, *(f"{times[key]:.1f}" if key in times else "-" for key in columns)) for case, times in cases.items()]
    header = ("case", "training step (ms)", "evaluation (ms)", "evaluation, merged (ms)")
    return table(header, rows) if rows else ""


def speed_note(name: ModelName, speed: Speed | None) -> str:
    """Return what the measured times depend on."""
    if not speed:
        return ""
    return (
        f"Medians of {speed.runs} runs of `python -m timm_lp.bench` on {one_line(speed.device)}, {speed.threads} "
        f"threads, torch {one_line(speed.torch)}. They are those of a new {name.name} with timm's default arguments, "
        "not of the weights here."
    )


def label_list(names: Sequence[str]) -> str:
    """Return the classes with their indices, on one line."""
    return " · ".join(f"{index} {one_line(name)}" for index, name in enumerate(names))


def limits(num_classes: int, base: BaseWeights, own: Sequence[Evaluation]) -> list[str]:
    """Return what the model is for, and where it cannot be trusted."""
    if num_classes:
        task = (
            f"It gives each image one of {num_classes} classes, an image of something else too, for research and as a "
            "starting point for further training. How well its probabilities are calibrated is not reported."
        )
    else:
        task = "It turns images into features, for research and as a starting point for further training."
    few = [_few_images(own[0], own[0].shots, num_classes)] if own and own[0].shots is not None else []
    lines = [task, *few]
    if own:
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


def _few_images(own: Evaluation, shots: int, num_classes: int) -> str:
    return (
        f"It was trained on {shots} images of each class of {one_line(own.dataset['name'])} "
        f"({shots * num_classes:,} at most): images unlike those are likely to be recognised worse than "
        "the results say."
    )


def _tested(evaluation: Evaluation) -> str:
    split = evaluation.dataset.get("split")
    images = f"{one_line(evaluation.dataset['name'])}: {evaluation.num_test:,} images"
    return f"{images} of its {one_line(split)} split" if split else images


def _has_frozen_masks(model: nn.Module, name: ModelName) -> bool:
    """Tell whether a network's masks are not trained; of a merged one, whether they were not."""
    layers = [module for module in model.modules() if isinstance(module, LpConv2d)]
    if layers:
        return not any(layer.log2p.requires_grad for layer in layers)
    return name.frozen or get_model_args(model).get("trainable_mask") is False


def _base_text(base: BaseWeights, variant: str | None) -> str:
    if base.stated_model is None:
        return _start_text(base, variant)
    stated = f"[{base.stated_model}]({hub_url(base.stated_model)}), as its publisher says"
    if not base.recorded or (base.start and base.start.hub_id == base.stated_model):
        return stated
    return f"{stated}; the training recorded: {_start_text(base, variant)}"


def _start_text(base: BaseWeights, variant: str | None) -> str:
    if base.start is None:
        return "not stated"
    if base.kind == "random":
        return "none, trained from random weights"
    if base.kind == "checkpoint":
        digest = f" (sha256 `{base.start.sha256}`)" if base.start.sha256 else ""
        what = f"a checkpoint file, `{one_line(base.start.file).replace('`', '')}`{digest}"
        if base.recorded:
            return f"{what}{_STARTS.get(_suffix(variant), '')}; what that was trained from is not recorded"
        loaded = "whether it was loaded, and what it was trained from, is not recorded"
        return f"{what}, as the model's configuration says; {loaded}"
    link = f"[{base.start.hub_id or base.url}]({base.url})"
    if base.recorded:
        return f"{link}{_STARTS.get(_suffix(variant), '')}"
    return f"{link}, as the model's configuration says; whether they were loaded is not recorded"


def _suffix(variant: str | None) -> str:
    return (variant or "").removeprefix(variant_prefix(variant or ""))


def _licence_text(base: BaseWeights) -> str:
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


def _percent(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.2f}"
