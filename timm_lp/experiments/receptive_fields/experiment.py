"""A run: collect the fields, fit each, and keep what the pictures show."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from ...command import first_line
from ...models.loading import load_network
from .fields import Field, FieldFit, Form, fit_field
from .flags import UNITS
from .inputs import InputFormat, embedded_images, find_images, input_format, read_images
from .plot import KernelPanel
from .sources import SYNTHETIC_P, NetworkSource, read_fields, synthetic_fields, synthetic_group
from .synapses import first_convolution


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        networks: Names or folders of networks, as `load_network` takes them.
        weights: `"trained"`, `"untrained"` or both.
        inputs: `"images"`, `"noise"` or both.
        images: Folder of images; None for the embedded photographs.
        num_images: Images, inputs of noise, and draws of each synthetic group.
        offsets: A CSV file of offsets, or None.
        tap: Steps of the grid on which the file's x and y lie, None where they lie anywhere.
        synthetic: Whether to add groups drawn from known distributions.
        unit: What a network's field is of: an `"image"` or a `"neuron"`.
        form: Form of `C`.
        seed: What settles crops, noise, random weights and draws.
    """

    networks: tuple[str, ...] = ()
    weights: tuple[str, ...] = ("trained", "untrained")
    inputs: tuple[str, ...] = ("images", "noise")
    images: Path | None = None
    num_images: int = UNITS
    offsets: Path | None = None
    tap: tuple[float, float] | None = None
    synthetic: bool = False
    unit: str = "image"
    form: Form = "isotropic"
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What a run found.

    Attributes:
        fields: The fields.
        fits: The fit of each.
        kernels: What is shown of each network.
        known: True exponents of the groups that were drawn, by name.
    """

    fields: list[Field]
    fits: list[FieldFit]
    kernels: list[KernelPanel] = field(default_factory=list)
    known: dict[str, float] = field(default_factory=dict)


def run(plan: Plan) -> Measured:
    """Collect the fields and fit them; files and networks are read before anything is computed.

    Raises:
        ValueError: If a file, folder or network is not what it must be, or no field is left to fit.
        OSError: If one cannot be read.
    """
    fields = [] if plan.offsets is None else read_fields(plan.offsets, plan.tap)
    sources = _network_sources(plan)
    if plan.synthetic:
        fields += synthetic_fields(plan.num_images, plan.seed)
    panels: dict[str, KernelPanel] = {}
    with tqdm(total=sum(len(source.inputs) for source in sources), desc="synapses", unit="input") as progress:
        for source in sources:
            counts = {}
            for name, synapses in source.synapses():
                counts[name] = synapses
                progress.update()
            fields += _own_fields(source, counts, plan.unit)
            panel = panels.setdefault(
                source.network, KernelPanel(source.network, source.convolution.kernel.double().numpy(), {})
            )
            panel.counts[source.shown] = np.sum(list(counts.values()), axis=0)
    fits = [fit_field(each, plan.form, plan.seed) for each in tqdm(fields, desc="fits", unit="field")]
    known = {synthetic_group(p): float(p) for p in SYNTHETIC_P} if plan.synthetic else {}
    return Measured(fields, fits, list(panels.values()), known)


def network_titles(names: tuple[str, ...]) -> dict[str, str]:
    """Return what to call each network: a folder's own name, unless another one has it too."""
    short = {name: Path(name).resolve().name if Path(name).is_dir() else name for name in names}
    return {name: title if list(short.values()).count(title) == 1 else name for name, title in short.items()}


def _own_fields(source: NetworkSource, counts: dict[str, np.ndarray], unit: str) -> list[Field]:
    fields = source.fields(counts, unit)
    if not fields:
        raise ValueError(
            f"`NETWORK` must have functional synapses, got none for {source.group}. Show it other images, or noise."
        )
    return fields


def _network_sources(plan: Plan) -> list[NetworkSource]:
    if not plan.networks:
        return []
    images = _images(plan) if "images" in plan.inputs else []
    titles = network_titles(plan.networks)
    sources = []
    for name in plan.networks:
        for weights in plan.weights:
            title = f"{titles[name]}, {weights}"
            network = _load(name, weights, plan.seed)
            taken = input_format(network, name)
            convolution = first_convolution(network, taken.size, name)
            sources += [
                NetworkSource(f"{title}, {shown}", title, shown, convolution, _shown(shown, plan, taken, images))
                for shown in plan.inputs
            ]
    return sources


def _images(plan: Plan) -> list[tuple[str, Image.Image]]:
    if plan.images is None:
        crops = embedded_images(plan.num_images, plan.seed)
        return [(f"crop {place + 1}", crop) for place, crop in enumerate(crops)]
    paths = find_images(plan.images, plan.num_images)
    return list(zip((path.name for path in paths), read_images(paths), strict=True))


def _shown(
    shown: str, plan: Plan, taken: InputFormat, images: list[tuple[str, Image.Image]]
) -> list[tuple[str, torch.Tensor]]:
    if shown == "noise":
        return [(f"noise {place + 1}", x) for place, x in enumerate(taken.noise(plan.num_images, plan.seed))]
    inputs = taken.to_inputs([image for _, image in images])
    return [(name, x) for (name, _), x in zip(images, inputs, strict=True)]


def _load(name: str, weights: str, seed: int) -> nn.Module:
    """Return a network in evaluation mode.

    Raises:
        ValueError: If there is no such network, or its trained weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights == "untrained":
            return load_network(name, pretrained=False).eval()
        try:
            return load_network(name).eval()
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"`NETWORK` must have trained weights that can be had, got {name}: {first_line(error).rstrip('.')}. "
                "`--weights untrained` needs none."
            ) from error
