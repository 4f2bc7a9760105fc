"""A model's card: the README.md of its repository."""

from typing import Any

from huggingface_hub import ModelCardData
from timm.models import get_model_input_config
from torch import nn

from . import sections
from .evaluation import Evaluation, parse_results
from .mask_report import mask_statistics
from .naming import ModelName, parse_name
from .provenance import BaseWeights, base_weights
from .templates import architecture_facts, render

REPOSITORY = "OWNER/NAME"  # stands in a card for the repository's name, which is known when it is pushed


def render_card(
    model: nn.Module,
    *,
    merged: bool,
    label_names: list[str] | None,
    results: dict[str, Any] | None,
    base_model: str | None = None,
    masks_image: str | None = None,
) -> str:
    """Return the README.md of a model's repository.

    It shows what was measured and nothing else; usage code names the repository `OWNER/NAME` until `fill_repo_id`.

    Args:
        model: A registered model, as `timm.create_model` builds it, or what `lp_merge` made of one.
        merged: Whether the repository holds the merged form, plain convolutions with the masks folded in.
        label_names: Names of the classes, by index.
        results: The content of a `results.json`: the recipe, results by seed, and optionally under `speed` the content
            of the file that `python -m timm_lp.bench` writes.
        base_model: The weights that training started from, `timm/resnet18.a1_in1k` for instance; None to take them
            from the recipe, or from the model's configuration.
        masks_image: The repository's file with the picture that `draw_masks` made.

    Returns:
        Markdown with the Hub's metadata.

    Raises:
        ValueError: If the model is no registered one, `label_names` are not one for each class, or `results` are not
            of the benchmark's form or not this model's.
    """
    config: Any = getattr(model, "pretrained_cfg", {})
    num_classes: Any = model.num_classes
    name = parse_name(config.get("architecture", type(model).__name__))
    if label_names is not None and len(label_names) != num_classes:
        raise ValueError(
            f"`label_names` must name each of the model's {num_classes} classes, got {len(label_names)} names. "
            "Give them in the order of the classifier's outputs."
        )
    results = results or {}
    evaluations = parse_results(results)
    recipe = results.get("recipe") or {}
    own = _own(evaluations, name, merged)
    base = base_weights(model, base_model, recipe)
    input_size = tuple(get_model_input_config(model)["input_size"])
    masks = [] if merged else mask_statistics(model)
    return render(
        "model",
        _metadata(name, base, own, num_classes),
        title=sections.title(name, merged, own),
        description=sections.description(name, merged, own),
        facts=sections.facts(model, name, merged, base, input_size),
        sizes=sections.sizes(model, merged, input_size),
        image_size=sections.by(input_size[1:]),
        results_table=sections.results_table(evaluations),
        results_note=sections.results_note(own),
        recipe=recipe,
        command=recipe.get("command"),
        settings=sections.settings(recipe),
        speed_table=sections.speed_table(name, results.get("speed")),
        speed_note=sections.speed_note(results.get("speed")),
        masks_note=sections.masks_note(model) if masks else "",
        masks_table=sections.masks_table(masks),
        layers_table=sections.layers_table(masks),
        masks_image=masks_image,
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


def _own(evaluations: list[Evaluation], name: ModelName, merged: bool) -> list[Evaluation]:
    """Return the evaluations of this model's variant; the others are there to compare."""
    variants = {evaluation.variant for evaluation in evaluations}
    own = [evaluation for evaluation in evaluations if evaluation.variant in (None, name.variant)]
    if merged and not own and len(variants) == 1:  # merged weights may go by the name of the large network
        return evaluations
    if evaluations and not own:
        listed = ", ".join(sorted(str(variant) for variant in variants))
        raise ValueError(f"`results` must hold some of {name.variant!r}, got those of {listed}. Give the model's own.")
    return own


def _metadata(name: ModelName, base: BaseWeights, own: list[Evaluation], num_classes: int) -> ModelCardData:
    task = "image-classification" if num_classes else "image-feature-extraction"
    measured = [evaluation.eval_result() for evaluation in own if evaluation.mean is not None]
    license: Any = base.license_metadata()
    return ModelCardData(
        **license,
        library_name="timm",
        pipeline_tag=task,
        tags=[task, "timm", "lp-convolution"],
        base_model=base.hub_id if base.known == "stated" else None,
        datasets=sorted({evaluation.hub_dataset for evaluation in own if evaluation.hub_dataset}) or None,
        metrics=sorted({result.metric_type for result in measured}) or None,
        model_name=name.name if measured else None,
        eval_results=measured or None,
    )
