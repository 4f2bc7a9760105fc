"""Let timm's own entry of a network build another form of it: timm builds, we change, timm loads and wraps features.

timm's entries end in `build_model_with_cfg`, which their modules import by name. There `_build` stands in for it; where
no form is asked for, in this thread, it is timm's.
"""

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from timm.models import build_model_with_cfg, get_pretrained_cfg, model_entrypoint
from torch import nn

from .checkpoint import RenameFn, StateDict, has_masks
from .complexity import to_meta
from .host import stand_in

FilterFn = Callable[[Mapping[str, Any], nn.Module], StateDict]


@dataclass
class _Form:
    """What is made of a base network.

    Attributes:
        name: Registered name of the form, whose configurations say where its weights are.
        change: Makes it of the base network.
        filter_fn: Makes weights fit it, or refuses them; None for what the base network's entry does.
        rename: Gives weights of other libraries timm's names before that.
        pretrained_cfg: What the caller gave for the form.
        is_built: Whether timm's builder was asked for it.
    """

    name: str
    change: Callable[[nn.Module], nn.Module]
    filter_fn: FilterFn | None
    rename: RenameFn | None
    pretrained_cfg: Any
    is_built: bool = False


_asked: ContextVar[_Form | None] = ContextVar("asked", default=None)


def build_form(
    base: str,
    name: str,
    change: Callable[[nn.Module], nn.Module],
    filter_fn: FilterFn | None = None,
    rename: RenameFn | None = None,
    *,
    pretrained: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Build a form of a network by the entry of its base network.

    Args:
        base: Registered name of the base network.
        name: Registered name of the form.
        change: Makes the form of the base network, which has random weights then.
        filter_fn: Makes weights fit the form, or refuses them; None for what the base network's entry does.
        rename: Gives weights of other libraries timm's names before that.
        pretrained: Whether to load weights.
        **kwargs: What the base network's entry takes.
    """
    outer = _asked.get()
    form = _Form(name, change, filter_fn, rename, kwargs.get("pretrained_cfg"))
    if outer is not None:  # a form of a form
        outer.is_built = True
        form = replace(outer, change=_in_turn(change, outer.change), is_built=False)
    entry = model_entrypoint(base)
    stand_in("build_model_with_cfg", build_model_with_cfg, _build, entry.__module__)
    token = _asked.set(form)
    try:
        model = entry(pretrained=pretrained, **kwargs)
    finally:
        _asked.reset(token)
    return model if form.is_built else form.change(model)  # an entry that does without timm's builder


def _in_turn(first: Callable[[nn.Module], nn.Module], then: Callable[[nn.Module], nn.Module]) -> Callable[..., Any]:
    return lambda model: then(first(model))


def _build(model_cls: Callable[..., nn.Module], variant: str, *args: Any, **kwargs: Any) -> nn.Module:
    """Do what timm's `build_model_with_cfg` does, for the form that is asked for if there is one."""
    form = _asked.get()
    if form is None:
        return build_model_with_cfg(model_cls, variant, *args, **kwargs)
    _asked.set(None)  # the networks in this one, as a backbone in a hybrid one, keep theirs
    form.is_built = True
    kwargs = inspect.signature(build_model_with_cfg).bind(model_cls, variant, *args, **kwargs).arguments
    kwargs |= kwargs.pop("kwargs", {})
    is_pruned, is_strict = kwargs.pop("pruned", False), kwargs.pop("pretrained_strict", True)
    of_base = kwargs.pop("pretrained_filter_fn", None)
    config, overlay, bases = get_pretrained_cfg(variant), kwargs.get("pretrained_cfg_overlay") or {}, []

    def build(**model_kwargs: Any) -> nn.Module:
        network: Any = model_cls(**model_kwargs)
        network.pretrained_cfg = {**(config.to_dict() if config else {}), **overlay}
        if is_pruned:
            from timm.models._prune import adapt_model_from_file  # private: no other network needs it

            network = adapt_model_from_file(network, variant)
        if kwargs.get("pretrained") and of_base is not None:
            bases.append(to_meta(network))
        return form.change(network)

    def filter_fn(state_dict: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
        state_dict = dict(state_dict.get("model", state_dict))  # under which the authors save it
        state_dict = form.rename(state_dict) if form.rename else state_dict
        if of_base is not None and not _is_of_form(state_dict, model):
            state_dict = _filtered(of_base, state_dict, bases[0])
        if form.filter_fn is None:
            return state_dict
        if not is_strict:  # features without a head
            expected = model.state_dict()
            state_dict = {key: value for key, value in state_dict.items() if key in expected}
        return form.filter_fn(state_dict, model)

    kwargs |= {"model_cls": build, "variant": form.name, "pretrained_cfg": form.pretrained_cfg}
    strict = is_strict and form.filter_fn is None  # the form's filter is strict, and refuses before anything is loaded
    return build_model_with_cfg(pretrained_filter_fn=filter_fn, pretrained_strict=strict, **kwargs)


def _is_of_form(state_dict: Mapping[str, Any], model: nn.Module) -> bool:
    """Tell whether weights were saved from a form, with its kernels, and not from the base network."""
    expected = model.state_dict()
    names, known = state_dict.keys(), expected.keys()
    is_like = names <= known or names >= known  # features have no head
    kernels = [key for key in names & known if expected[key].ndim == 4]
    return has_masks(state_dict) or (
        is_like and all(state_dict[key].shape[2:] == expected[key].shape[2:] for key in kernels)
    )


def _filtered(filter_fn: Callable[..., Any], state_dict: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Return what a filter of timm's makes of weights; some take the weights alone."""
    try:
        inspect.signature(filter_fn).bind(state_dict, model)
    except TypeError:
        return filter_fn(state_dict)
    return filter_fn(state_dict, model)
