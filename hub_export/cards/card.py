"""A model's card: the README.md of its repository."""

from dataclasses import replace
from typing import Any

from huggingface_hub import ModelCardData
from timm.models import get_model_args, get_model_input_config, split_model_name_tag
from torch import nn

from timm_lp.masks.statistics import layer_masks
from timm_lp.models.variants import PAPER, REINIT

from . import mask_sections, sections
from .evaluation import Evaluation
from .naming import ModelName, is_ours, parse_name
from .provenance import BaseWeights, base_weights
from .results import Results
from .templates import architecture_facts, by, render

REPOSITORY = "OWNER/NAME"  # stands in a card for the repository's name, which is known when it is pushed


def render_card(
    model: nn.Module,
    *,
    merged: bool,
    label_names: list[str] | None,
    results: Results | None,
    masks_image: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
) -> str:
    """Return the README.md of a model's repository.

    It shows what was measured and nothing else; usage code names the repository `OWNER/NAME` until `fill_repo_id`.

    Args:
        model: A registered model, as `timm.create_model` builds it, or what `lp_merge` made of one.
        merged: Whether the repository holds the merged form, plain convolutions with the masks folded in.
        label_names: Names of the classes, by index.
        results: The recipe, results by seed, and times.
        masks_image: The repository's file with the picture that `draw_overview` made.
        license: The model's licence as its publisher states it; None for what its training recorded.
        base_model: The base model's repository on the Hub, likewise.

    Returns:
        Markdown with the Hub's metadata.

    Raises:
        ValueError: If the model is no registered one, `label_names` are not one for each class, `results` are not this
            model's, or `license` or `base_model` is none.
    """
    config: Any = getattr(model, "pretrained_cfg", {})
    num_classes: Any = model.num_classes
    name = parse_name(config.get("architecture", type(model).__name__))
    if label_names is not None and len(label_names) != num_classes:
        raise ValueError(
            f"`label_names` must name each of the model's {num_classes} classes, got {len(label_names)} names. "
            "Give them in the order of the classifier's outputs."
        )
    results = _of_network(results or Results(), name)
    recipe, evaluations = results.recipe, results.evaluations
    own = _own(model, name, results, merged)
    base = base_weights(model, recipe.start, license, base_model)
    input_size = tuple(get_model_input_config(model)["input_size"])
    masks = [] if merged else layer_masks(model)
    return render(
        "model",
        _metadata(name, base, own, recipe.seed, num_classes),
        title=sections.title(name, merged, own),
        description=sections.description(model, name, merged, own, recipe.seed),
        facts=sections.facts(model, name, merged, base, recipe, input_size),
        sizes=sections.sizes(model, merged, input_size),
        image_size=by(input_size[1:]),
        in_chans=input_size[0],
        results_table=sections.results_table(evaluations),
        results_note=sections.results_note(own, recipe),
        command=recipe.command,
        settings=sections.settings(recipe, own),
        speed_table=sections.speed_table(name, results.speed),
        speed_note=sections.speed_note(name, results.speed),
        masks_note=mask_sections.masks_note(masks) if masks else "",
        moved_table=mask_sections.moved_table(masks),
        biology_note=mask_sections.BIOLOGY_NOTE,
        masks_table=mask_sections.masks_table(masks),
        layers_table=mask_sections.layers_table(masks),
        masks_image=masks_image,
        needs_package=merged or is_ours(name.name),
        repository=REPOSITORY,
        label_names=label_names,
        label_list=sections.label_list(label_names or []),
        num_classes=num_classes,
        limits=sections.limits(num_classes, base, own),
        source=architecture_facts()["architectures"][name.architecture]["source"],
    )


def fill_repo_id(card: str, repo_id: str) -> str:
    """Return a card whose usage code names its repository.

    Args:
        card: What `render_card` returned.
        repo_id: The repository's id, `owner/name`.
    """
    return card.replace(REPOSITORY, repo_id)


def _of_network(results: Results, name: ModelName) -> Results:
    """Return the results of a model's base network, of those of several."""
    models = [evaluation.model for evaluation in results.evaluations]
    own = [
        evaluation
        for evaluation in results.evaluations
        if evaluation.model is None or split_model_name_tag(evaluation.model)[0] == name.architecture
    ]
    if models and not own:
        listed = ", ".join(sorted(set(map(str, models))))
        raise ValueError(
            f"`results` must hold some of {name.architecture}, got those of {listed}. Give the model's own."
        )
    return replace(results, evaluations=own)


def _own(model: nn.Module, name: ModelName, results: Results, merged: bool) -> list[Evaluation]:
    """Return the evaluations of a model's own variant; the others are there to compare."""
    variant = _own_variant(model, name, results, merged)
    own = [evaluation for evaluation in results.evaluations if evaluation.variant in (None, variant)]
    if results.evaluations and not own:
        listed = ", ".join(sorted({str(evaluation.variant) for evaluation in results.evaluations}))
        raise ValueError(f"`results` must hold some of {variant!r}, got those of {listed}. Give the model's own.")
    if len(trained_on := list(dict.fromkeys(evaluation.setting for evaluation in own))) > 1:
        raise ValueError(
            f"`results` must be those of the data that the model was trained on, got {' and '.join(trained_on)}. Give "
            "the results.json in the trial's folder."
        )
    return own


def _own_variant(model: nn.Module, name: ModelName, results: Results, merged: bool) -> str:
    """Return which variant of the benchmark a model is."""
    named = {evaluation.variant for evaluation in results.evaluations}
    trial = results.recipe.variant
    if merged and name.variant == "large" and len(named) == 1:  # merged weights may go by the large network's name
        return named.pop() or name.variant
    if trial is not None:
        if trial not in (name.variant, f"{name.variant}{PAPER}", f"{name.variant}{REINIT}"):
            raise ValueError(f"`results` must be those of {name.name}, got those of {trial!r}. Give the model's own.")
        return trial
    if name.variant == "large" and {"large", f"large{REINIT}"} <= named:
        raise ValueError(
            f"`results` must say whether {name.name} is large or large{REINIT}, got those of both. Give the "
            "results.json in the trial's folder."
        )
    return f"{name.variant}{PAPER}" if get_model_args(model).get("preserve") is False else name.variant


def _metadata(
    name: ModelName, base: BaseWeights, own: list[Evaluation], seed: int | None, num_classes: int
) -> ModelCardData:
    task = "image-classification" if num_classes else "image-feature-extraction"
    measured = [result for evaluation in own if (result := evaluation.eval_result(seed))]
    license: Any = base.license_metadata()
    return ModelCardData(
        **license,
        library_name="timm",
        pipeline_tag=task,
        tags=[task, "timm", "lp-convolution"],
        base_model=base.base_model,
        datasets=sorted({evaluation.hub_dataset for evaluation in own if evaluation.hub_dataset}) or None,
        metrics=sorted({result.metric_type for result in measured}) or None,
        model_name=name.name if measured else None,
        eval_results=measured or None,
    )
