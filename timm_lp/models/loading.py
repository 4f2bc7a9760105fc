"""Load a trained network by its name or its folder, and end at once where its weights cannot be had."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.models import is_model, split_model_name_tag
from torch import nn

from .checkpoint import read_weights, without_prefix
from .host import FOLDER, HUB

_PATIENCE = 5  # seconds for a server's answer

CONFIG_FILE = "config.json"  # beside saved weights; it says what timm builds
WEIGHTS_FILE = "model.safetensors"  # what timm and we call saved weights
TORCH_WEIGHTS = "pytorch_model.bin"  # what timm calls those that torch saved


class UnreachableError(OSError):
    """Weights are neither cached nor within reach."""


def create_model(name: str, *, advice: str = "name a folder that holds a network", **arguments: Any) -> nn.Module:
    """Return what `timm.create_model` returns, and do not wait for weights that cannot be had.

    Without a network, huggingface_hub tries each of the files that timm asks for again and again, for 23 s each.

    Args:
        name: Name of the network, as timm takes it.
        advice: What the user can do without a network.
        **arguments: Further arguments of `timm.create_model`.

    Raises:
        UnreachableError: If weights are asked for that are neither cached nor within reach.
    """
    if arguments.get("pretrained"):
        check_reach(name, arguments.get("pretrained_cfg_overlay"), arguments.get("cache_dir"), advice=advice)
    return timm.create_model(name, **arguments)


def check_reach(
    name: str, overlay: Mapping[str, Any] | None = None, cache_dir: str | Path | None = None, *, advice: str
) -> None:
    """Refuse a network whose weights are neither cached nor within reach.

    Args:
        name: Name of the network, as timm takes it.
        overlay: What is changed of its `pretrained_cfg`.
        cache_dir: Where weights are cached, None for the usual place.
        advice: What the user can do without a network.

    Raises:
        UnreachableError: If that is so.
        RuntimeError: If the name has a tag that timm does not know.
    """
    if name.startswith(HUB):
        config: dict[str, Any] = {"hf_hub_id": name.removeprefix(HUB)}
    else:
        registered = timm.get_pretrained_cfg(name) if is_model(split_model_name_tag(name)[0]) else None
        config = {**(registered.to_dict() if registered else {}), **(overlay or {})}
    repo, url = config.get("hf_hub_id"), config.get("url")
    url = url if isinstance(url, str) else url and url[0]
    if config.get("file") or config.get("state_dict") or (url and _is_downloaded(url, cache_dir)):
        return
    if repo:
        server, cache = constants.ENDPOINT, Path(cache_dir or constants.HF_HUB_CACHE)
        can_be_had = _is_in_hub_cache(name, repo, config.get("hf_hub_filename"), cache) or _hub_answers()
    elif url:
        server, cache = "{0.scheme}://{0.netloc}".format(urlsplit(url)), _downloads(cache_dir)
        can_be_had = _answers(url)
    else:
        return  # timm says that there are none
    if not can_be_had:
        offline = " with HF_HUB_OFFLINE set" if repo and constants.HF_HUB_OFFLINE else ""
        raise UnreachableError(
            f"{server} cannot be reached{offline}, and {cache} does not hold the weights of {name}. Check the "
            f"connection, copy that folder from a machine that has them, or {advice}."
        )


def _is_in_hub_cache(name: str, repo: str, filename: str | None, cache: Path) -> bool:
    """Tell whether the files that timm asks for are there; of weights, whether one of their forms is."""
    repo_id, _, revision = repo.partition("@")
    weights = filename or TORCH_WEIGHTS
    safe = weights.replace(TORCH_WEIGHTS, WEIGHTS_FILE), weights.replace(".bin", ".safetensors")
    needed = [{weights, *safe}, *([{"config.json"}] if name.startswith(HUB) else [])]
    return all(
        any(isinstance(try_to_load_from_cache(repo_id, file, cache, revision or None), str) for file in files)
        for files in needed
    )


def _hub_answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # the client's HTTP library, and with it the errors, change with its version
        return False
    return True


def _answers(url: str) -> bool:
    try:
        urlopen(Request(url, method="HEAD"), timeout=_PATIENCE).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


def _is_downloaded(url: str, cache_dir: str | Path | None) -> bool:
    return (_downloads(cache_dir) / PurePosixPath(urlsplit(url).path).name).is_file()


def _downloads(cache_dir: str | Path | None) -> Path:
    """Return where torch and timm keep what they download from an address."""
    return Path(cache_dir or Path(torch.hub.get_dir(), "checkpoints"))


def load_network(name: str, **arguments: Any) -> nn.Module:
    """Return a network with its trained weights.

    Args:
        name: A registered name, with or without a tag; `hf-hub:` or `local-dir:` and what timm takes after it; or a
            folder that holds a saved network, a trial's for instance, which wins over a registered name.
        **arguments: Further arguments of `timm.create_model`; `pretrained=False` for random weights.

    Raises:
        ValueError: If there is no such network, or no network in the folder.
        OSError: If it cannot be fetched, at once where there is no way to it.
    """
    arguments = {"pretrained": True, **arguments}
    if not name.startswith((HUB, FOLDER)) and (Path(name) / CONFIG_FILE).is_file():
        name = f"{FOLDER}{name}"
    if not name.startswith((HUB, FOLDER)) and not is_model(split_model_name_tag(name)[0]):
        raise ValueError(
            f"`name` must be a registered network, {HUB}ORG/NAME, {FOLDER}FOLDER or a folder with {CONFIG_FILE}, got "
            f"{name!r}. timm.list_models('lp*') lists ours."
        )
    return create_model(name, **arguments)


def load_weights(file: str, **arguments: Any) -> nn.Module:
    """Return the network that a folder's configuration describes, with the weights in another of its files.

    Args:
        file: What torch or safetensors saved, in the folder of a saved network.
        **arguments: Further arguments of `timm.create_model`; `pretrained=False` for random weights.

    Raises:
        ValueError: If there is no configuration beside it, or the file holds no weights.
        RuntimeError: If the weights are not those of that network.
        OSError: If it cannot be read.
    """
    network = load_network(str(Path(file).parent), **{**arguments, "pretrained": False})
    if arguments.get("pretrained", True):
        network.load_state_dict(without_prefix(read_weights(file), network.state_dict(), file))
    return network
