"""Networks of the user's own, by the path of their class or function: timm's registry and our variants know them.

Nothing is imported because a configuration names it, since anybody may have written that: only what a user or a trial's
record names, and only classes of `nn.Module` and functions that say that they return one.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, get_type_hints

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import nn

from ..module_path import import_path, is_module_path, name_of
from ..variants import BASE
from .variants import split_name

_OF_TIMM = {"features_only", "out_indices", "feature_cls", *inspect.signature(build_model_with_cfg).parameters}

BUILT_BY = "built_by"  # the key of a saved network's configuration under which its path stands

__all__ = ["BUILT_BY", "built_by", "path_of", "register_network", "registered_name", "unknown_network"]

default_cfgs: dict[str, Any] = {}
_paths: dict[str, str] = {}  # of the registered networks, by their names


def register_network(path: str) -> str:
    """Let timm know a class or function of the user's own, and return its name there: `mypackage_nets_MyNet`.

    The class or function must take `num_classes`. It may take `in_chans`, and have an attribute `default_cfg`, a
    dictionary like those of timm's networks (`{"input_size": (1, 28, 28)}`); ImageNet's is taken otherwise.

    ```python
    name = register_network("torchvision.models:squeezenet1_1")
    model = timm.create_model(f"lp2_{name}", num_classes=10)
    ```

    Args:
        path: The module and the name in it, `mypackage.nets:MyNet`.

    Raises:
        ValueError: If it cannot be imported, is no such class or function, or its name is taken.
    """
    name = name_of(path)
    if _paths.get(name) == path:
        return name
    if not is_module_path(path) or is_model(name):
        raise ValueError(
            f"`model` must be a path like mypackage.nets:MyNet, of which timm knows no {name}, got {path!r}."
        )
    build = import_path(path)
    _check(build, path)

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(build, name, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"The network of {path}."
    default_cfgs.update(generate_default_cfgs({name: _default_cfg(build)}))
    _paths[name] = path
    register_model(create)
    return name


def registered_name(name: str) -> str:
    """Return a network's name in timm's registry, where `register_network` puts it if it is a path.

    Args:
        name: A registered name, or a path, with the prefix of a variant before it or without.

    Raises:
        ValueError: If it is a path that cannot be registered.
    """
    if not is_module_path(name):
        return name
    model, variant = split_name(name)
    if variant == BASE or find_spec(name.partition(".")[0].partition(":")[0]):  # a module called lp2_nets
        return register_network(name)
    return f"{variant}_{register_network(model)}"


def path_of(name: str) -> str | None:
    """Return the path of the class or function that builds a network, None for those of timm and of packages.

    Args:
        name: A name that `register_network` has registered, with the prefix of a variant before it or without.
    """
    return _paths.get(split_name(name)[0])


def built_by(network: Any) -> dict[str, str]:
    """Return what a saved network's configuration says of the code that builds it, nothing where timm knows it."""
    path = path_of(network.pretrained_cfg["architecture"])
    return {BUILT_BY: path} if path else {}


def unknown_network(name: Any, config: Mapping[str, Any]) -> str:
    """Return why the network of a configuration cannot be built, and what to do, to stand after "got".

    Args:
        name: Its name, which timm does not know.
        config: The configuration, which anybody may have written.
    """
    path = config.get(BUILT_BY)
    if not isinstance(path, str) or not is_module_path(path):
        return f"the unknown architecture {name!r}"
    return (
        f"{name!r}, which is built by {path}, code that timm does not have. If you trust it, let timm know it with "
        f"timm_lp.models.register_network({path!r}), or give `timm-lp hub` --code {path}"
    )


def _check(build: Any, path: str) -> None:
    returned = build if inspect.isclass(build) else _returned(build)
    if not (inspect.isclass(returned) and issubclass(returned, nn.Module)):
        raise ValueError(
            f"`model` must be a class of nn.Module, or a function that is annotated to return one, got {path}. "
            "Write `def network(num_classes: int) -> nn.Module`."
        )
    if not _takes(build, "num_classes", or_any=True):
        raise ValueError(
            f"`model` must take num_classes, the number of its outputs, got {path} with "
            f"{', '.join(_parameters(build)) or 'no arguments'}. Let it take that, or write a function that does."
        )


def _returned(build: Any) -> Any:
    try:
        return get_type_hints(build).get("return")
    except (TypeError, NameError, AttributeError, SyntaxError):  # no function, or annotations of what is not there
        return None


def _parameters(build: Callable[..., nn.Module]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(build).parameters


def _takes(build: Callable[..., nn.Module], name: str, *, or_any: bool = False) -> bool:
    kinds = {key: parameter.kind for key, parameter in _parameters(build).items()}
    return name in kinds or (or_any and inspect.Parameter.VAR_KEYWORD in kinds.values())


def _default_cfg(build: Any) -> dict[str, Any]:
    said = getattr(build, "default_cfg", None)
    # Its weights are of no number of classes, so that each training has a new classifier.
    return {"num_classes": -1, "input_size": (3, 224, 224), **(said if isinstance(said, dict) else {})}


def _create(
    build: Callable[..., nn.Module],
    name: str,
    pretrained: bool,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Do what an entry of timm's does."""
    of_timm = {key: kwargs.pop(key) for key in _OF_TIMM & kwargs.keys()}
    channels = default_cfgs[name].default.input_size[0]
    if not _takes(build, "in_chans") and kwargs.get("in_chans", channels) == channels:
        kwargs.pop("in_chans", None)  # which timm writes down for every network
    saved = of_timm.get("pretrained_cfg")
    if isinstance(saved, Mapping) and saved.get("num_classes", -1) >= 0:
        kwargs.setdefault("num_classes", saved["num_classes"])
    network: Any = build(**kwargs)
    usual = _parameters(build).get("num_classes")
    num_classes = kwargs.get("num_classes", getattr(network, "num_classes", usual.default if usual else None))
    if type(num_classes) is not int:
        raise TypeError(f"`num_classes` must be given to {name}, got {num_classes!r}.")
    classifier = _classifier(network, num_classes)
    network.num_classes = num_classes
    if not hasattr(network, "num_features"):  # which timm writes down too
        head = dict(network.named_modules()).get(classifier or "")
        network.num_features = getattr(head, "in_features", getattr(head, "in_channels", 0))
    overlay = {"classifier": classifier or [], **(pretrained_cfg_overlay or {})}
    return build_model_with_cfg(
        lambda **_: network, name, pretrained, pretrained_cfg_overlay=overlay, num_classes=num_classes, **of_timm
    )


def _classifier(network: nn.Module, num_classes: int) -> str | None:
    """Return the name of the last layer with as many outputs as there are classes, None if there is none."""
    outputs = {
        name: getattr(module, "out_features", getattr(module, "out_channels", None))
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    }
    return next((name for name in reversed(outputs) if outputs[name] == num_classes), None)
