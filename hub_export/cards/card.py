"""A model's card: the README.md of its repository."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from timm.models import get_model_args, get_model_input_config
from torch import nn

from timm_lp.masks.overview import draw_overview
from timm_lp.masks.statistics import layer_masks
from timm_lp.models.user_networks import path_of

from . import sections
from .evaluation import Evaluation, Trials
from .provenance import BaseWeights
from .records import Speed
from .templates import TAG, ModelName, architecture_facts, by, is_ours, package_url, parse_name, render

_logger = logging.getLogger(__name__)

REPOSITORY = "OWNER/NAME"  # stands in a card for the repository's name, which is known when it is pushed


def render_card(
    model: nn.Module,
    *,
    merged: bool,
    label_names: list[str] | None,
    trials: Trials,
    base: BaseWeights,
    speed: Speed | None = None,
    masks_image: str | None = None,
    benchmark: str | None = None,
) -> str:
    """Return the README.md of a model's repository.

    It shows only what was measured. Its code names the repository `OWNER/NAME` until `fill_repo_id` fills it in.

    Args:
        model: A registered model, as `timm.create_model` builds it, or what `lp_merge` made of one.
        merged: Whether the repository holds the merged form, plain convolutions with the masks folded in.
        label_names: Names of the classes, by index.
        trials: The trials of the model, as `trials_of` chooses them.
        base: Where its weights started from.
        speed: Measured times.
        masks_image: The repository's file with the picture that `draw_overview` made.
        benchmark: What `benchmark_section` returned of the run that it belongs to.

    Returns:
        Markdown with the Hub's metadata.

    Raises:
        ValueError: If the model is no registered one, or `label_names` are not one for each class.
    """
    num_classes: Any = model.num_classes
    name = _name_of(model)
    if label_names is not None and len(label_names) != num_classes:
        raise ValueError(
            f"`label_names` must name each of the model's {num_classes} classes, got {len(label_names)} names. "
            "Give them in the order of the classifier's outputs."
        )
    variant = trials.trained.variant if trials.trained else None
    variants = {record.variant for record in trials.of_variant}
    evaluations = [evaluation for evaluation in trials.evaluations if evaluation.trial.variant in variants]
    input_size = tuple(get_model_input_config(model)["input_size"])
    built_by = path_of(name.name)
    in_transformers = bool(num_classes) and input_size[0] == 3 and not built_by
    masks = [] if merged else layer_masks(model)
    return render(
        "model",
        _metadata(name.name, base, evaluations, trials.seed, num_classes, in_transformers),
        title=sections.title(name, merged, evaluations),
        description=sections.description(model, name, merged, evaluations, trials.seed),
        facts=sections.facts(model, name, merged, base, variant, input_size),
        sizes=sections.sizes(model, merged, input_size),
        image_size=by(input_size[1:]),
        in_chans=input_size[0],
        results_table=sections.results_table(trials.evaluations),
        results_note=sections.results_note(evaluations, trials.seed),
        benchmark=benchmark,
        command=trials.command,
        settings=sections.settings(trials),
        speed_table=speed.table(name.name) if speed else "",
        speed_note=speed.note(name.name) if speed else "",
        masks_note=sections.masks_note(masks) if masks else "",
        moved_table=sections.moved_table(masks),
        masks_table=sections.masks_table(masks),
        layers_table=sections.layers_table(masks),
        masks_image=masks_image,
        needs_package=merged or is_ours(name.name),
        built_by=built_by,
        package_url=package_url(),
        in_transformers=in_transformers,
        repository=REPOSITORY,
        label_names=label_names,
        label_list=sections.label_list(label_names or []),
        num_classes=num_classes,
        limits=sections.limits(num_classes, base, evaluations),
        source=architecture_facts()["architectures"].get(name.architecture, {}).get("source"),
    )


def draw_masks(network: nn.Module, path: Path) -> bool:
    """Draw the masks of a network if there are any, and tell whether that was done."""
    layers = layer_masks(network)
    try:
        if layers:
            draw_overview(layers, path)
    except ImportError as error:
        _logger.warning("The card gets no picture of the masks: %s. Install timm-lp[hub] for it.", error)
        return False
    return bool(layers)


def trials_of(model: nn.Module, trials: Trials, merged: bool) -> Trials:
    """Return the trials that a model's card shows, those of its variant first.

    Raises:
        ValueError: If the model is no registered one, or the trials are not those of the model.
    """
    return trials.of_network(_name_of(model), get_model_args(model).get("preserve") is False, merged)


def fill_repo_id(card: str, repo_id: str) -> str:
    """Return a card whose usage code names its repository.

    Args:
        card: What `render_card` returned.
        repo_id: The repository's id, `owner/name`.
    """
    return card.replace(REPOSITORY, repo_id)


def _name_of(model: nn.Module) -> ModelName:
    config: Any = getattr(model, "pretrained_cfg", {})
    name = parse_name(config.get("architecture", type(model).__name__))
    arguments = get_model_args(model)
    conversion = arguments.get("conversion")  # of a network that was converted by hand
    if conversion is None:
        layers = tuple(arguments.get("lp_layers") or ())
        where = f", in {', '.join(f'`{layer}`' for layer in layers)} alone" if layers else ""
        return replace(name, layers=layers, summary=f"{name.summary}{where}")
    start = f"p starting at {conversion['p_init']:g}" if conversion["masked"] else "without masks"
    return replace(
        name,
        enlarged=conversion["kernel_scale"] > 1,
        frozen=conversion.get("trainable_mask") is False,
        summary=f"{len(conversion['layers'])} layers converted by lp_convert, {start}",
    )


def _metadata(
    name: str,
    base: BaseWeights,
    evaluations: list[Evaluation],
    seed: int | None,
    num_classes: int,
    in_transformers: bool,
) -> ModelCardData:
    task = "image-classification" if num_classes else "image-feature-extraction"
    measured = [result for evaluation in evaluations for result in evaluation.eval_results(seed)]
    license: Any = base.license_metadata()
    return ModelCardData(
        **license,
        library_name="timm",
        pipeline_tag=task,
        tags=[task, "timm", *(["transformers"] if in_transformers else []), TAG],
        base_model=base.base_model,
        datasets=sorted({evaluation.hub_dataset for evaluation in evaluations if evaluation.hub_dataset}) or None,
        metrics=sorted({result.metric_type for result in measured}) or None,
        model_name=name if measured else None,
        eval_results=measured or None,
    )
