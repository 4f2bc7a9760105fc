"""Representational similarity analysis of networks with a cortex (Figure 6), from images to rows of results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ...command import first_line
from .alignment import Samples, align
from .ceiling import Ceiling, ceiling_of
from .comparison import Difference, differences
from .groups import Aligned, Group, groups_of, interval_of
from .networks import Network
from .representations import layer_rsms
from .responses import Responses
from .similarity import Array, rsm_of_responses
from .stimuli import network_input
from .synthetic import SyntheticCortex


@dataclass(frozen=True)
class Analysis:
    """What came out.

    Attributes:
        responses: The cortex.
        ceilings: By area.
        groups: Networks, seeds of one together, and behind them what stands beside them.
        differences: Between the networks.
    """

    responses: Responses
    ceilings: dict[str, Ceiling]
    groups: list[Group]
    differences: list[Difference]


def analyse(
    responses: Responses,
    networks: Sequence[Network],
    samples: Samples,
    *,
    layers: Sequence[str] = (),
    image_size: int | None = None,
    device: str = "cpu",
    cortex: SyntheticCortex | None = None,
) -> Analysis:
    """Compare networks with a cortex.

    All networks run before the first is compared, so that one that cannot be used is found soon.

    Args:
        responses: The cortex, with images.
        networks: The networks.
        samples: Choices of the images.
        layers: Names of the layers, all convolutions by default.
        image_size: Height and width of the networks' input, pixels; their own by default.
        device: Where the networks run.
        cortex: What the responses were made of, to stand beside the networks.

    Raises:
        ValueError: If a network or layer cannot be used, or the seeds of one have different layers.
        OSError: If a network cannot be fetched.
    """
    if responses.images is None:
        raise ValueError("`--responses` must hold `images`, or `--images` name a folder of them, got neither.")
    areas = area_rsms(responses)
    similarities = [
        (network.name, network.group, network.seed, False, _rsms(network, responses, layers, image_size, device))
        for network in tqdm(networks, desc="networks", unit="network", disable=None)
    ]
    _check_seeds(networks, [[*rsms] for *_, rsms in similarities])
    similarities += [(name, name, None, True, rsms) for name, rsms in _baselines(responses, cortex).items()]
    aligned = [
        Aligned(name, group, seed, baseline, align(rsms, areas, samples))
        for name, group, seed, baseline, rsms in tqdm(similarities, desc="taus", unit="network", disable=None)
    ]
    groups = groups_of(aligned)
    ceilings = {name: ceiling_of(area, responses.centred) for name, area in responses.areas.items()}
    return Analysis(responses, ceilings, groups, differences([group for group in groups if not group.baseline]))


def area_rsms(responses: Responses) -> dict[str, Array]:
    """Return the similarities of the images by area, each of shape `(n, n)`.

    Raises:
        ValueError: If they are not defined.
    """
    return {
        name: np.asarray(area.rsm, np.float64)
        if area.responses is None
        else _finite(rsm_of_responses(area.responses, responses.centred), f"responses_{name}")
        for name, area in responses.areas.items()
    }


def _finite(rsm: Array, name: str) -> Array:
    """Refuse responses that have nothing left to compare once the units' means are subtracted."""
    if not np.isfinite(rsm).all():
        raise ValueError(
            f"`{name}` must vary between the images and between the units beside their means, got the same response "
            "everywhere. Leave it out, or do not centre."
        )
    return rsm


def result_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Return a row for each network, layer and area; the README says what its entries mean."""
    return [row for group in analysis.groups for member in group.members for row in _rows(analysis, member)]


def _rsms(
    network: Network, responses: Responses, layers: Sequence[str], image_size: int | None, device: str
) -> dict[str, Array]:
    model = network.load().to(device)
    images = network_input(responses.images, model, image_size).to(device)  # type: ignore[arg-type]
    try:
        return layer_rsms(model, images, layers, centred=responses.centred)
    except ValueError as error:
        raise ValueError(f"{network.name}: {error}") from error
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:  # what timm's networks of a fixed size, and torch, have to say
        size = " x ".join(map(str, images.shape[2:]))
        raise ValueError(
            f"`--image-size` must fit {network.name}, got {size} pixels: {first_line(error)}. Give its own size."
        ) from error


def _check_seeds(networks: Sequence[Network], layers: Sequence[Sequence[str]]) -> None:
    """Refuse seeds of one network that have different layers."""
    first: dict[str, tuple[str, Sequence[str]]] = {}
    for network, its_layers in zip(networks, layers, strict=True):
        name, layers_of_first = first.setdefault(network.group, (network.name, its_layers))
        if its_layers != layers_of_first:
            raise ValueError(
                f"`--models` must name seeds of one network, got other layers in {network.name} than in {name}, both "
                f"{network.group}. Compare them one at a time."
            )


def _baselines(responses: Responses, cortex: SyntheticCortex | None) -> dict[str, dict[str, Array]]:
    """Return what stands beside the networks: the pixels, and what a synthetic cortex was made of."""
    pixels = responses.images.reshape(responses.num_images, 1, -1).astype(np.float64)  # type: ignore[union-attr]
    baselines = {"pixels": {"pixels": _finite(rsm_of_responses(pixels, responses.centred), "images")}}
    if cortex is not None:
        features = {
            name: rsm_of_responses(values[:, None], responses.centred) for name, values in cortex.features.items()
        }
        baselines["generating features"] = features
        baselines["generating features, images shuffled"] = {name: rsm[::-1, ::-1] for name, rsm in features.items()}
    return baselines


def _rows(analysis: Analysis, aligned: Aligned) -> Iterable[dict[str, Any]]:
    alignment = aligned.alignment
    low, high = interval_of(alignment.resampled)
    held_out = alignment.held_out.mean(1)
    maximum = np.unravel_index(alignment.tau.argmax(), alignment.tau.shape)
    for depth, layer in enumerate(alignment.layers):
        for column, area in enumerate(alignment.areas):
            best = bool(alignment.best[column] == depth)
            ceiling = analysis.ceilings[area]
            tau = float(alignment.tau[depth, column])
            yield {
                "model": aligned.name,
                "group": aligned.group,
                "seed": aligned.seed,
                "baseline": aligned.baseline,
                "layer": layer,
                "depth": depth,
                "area": area,
                "tau": tau,
                "low": float(low[depth, column]),
                "high": float(high[depth, column]),
                "best_of_area": best,
                "maximum": bool(maximum == (depth, column)),
                "held_out_tau": float(held_out[column]) if best else None,
                "null": alignment.null,
                "null_of_maximum": alignment.null_of_maximum,
                "ceiling": ceiling.tau,
                "ceiling_kind": ceiling.kind,
                "agreement": ceiling.agreement,
                "share_of_ceiling": tau / ceiling.tau if ceiling.tau else None,
                **_about(analysis.responses),
            }


def _about(responses: Responses) -> Mapping[str, Any]:
    return {
        "images": responses.num_images,
        "centred": responses.centred,
        "synthetic": responses.synthetic,
        "source": responses.source,
    }
