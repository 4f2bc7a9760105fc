"""The masks of a training, epoch by epoch: a file of a few kilobytes each, and the animation of them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..files import write_bytes
from .gallery import evenly, plot_gallery
from .group import Group
from .statistics import LayerMasks, layer_masks, median, pool

HISTORY_FOLDER = "masks"  # in a trial's folder
_LAYERS = "layers"  # key of a file's metadata
_FRAME_MS, _LAST_FRAME_MS = 150, 2000
_DPI, _COLOURS = 100, 48  # of the animation
_MAX_LAYERS, _MAX_FRAMES = 4, 40

History = Mapping[int, list[LayerMasks]]  # by the number of epochs


def keep_masks(model: nn.Module, folder: Path, epoch: int) -> None:
    """Write the masks of a network that trains; of a network without masks, write nothing.

    The first ones, of epoch 0, take the place of all that an earlier training left.

    Args:
        model: The network.
        folder: The trial's folder.
        epoch: How many epochs it has trained; 0 before the first.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If a mask is not finite.
    """
    layers = layer_masks(model)
    if not layers:
        return
    tensors = {f"{layer.fqn}.{name}": getattr(layer, name).float() for layer in layers for name in ("C", "log2p")}
    starts = [[layer.fqn, layer.kernel_size, layer.p_init, layer.sigma_init] for layer in layers]
    for earlier in _files(folder) if epoch == 0 else ():
        earlier.unlink()
    path = folder / HISTORY_FOLDER / f"epoch{epoch:05d}.safetensors"
    write_bytes(path, save(tensors, metadata={_LAYERS: json.dumps(starts)}))


def read_masks(folder: Path) -> History:
    """Return the masks that a training kept, layer by layer, by the number of epochs; none if it kept none.

    Args:
        folder: The trial's folder.

    Raises:
        ValueError: If a file is damaged, or another program's.
    """
    return {int(path.stem.removeprefix("epoch")): _read(path) for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    files = sorted((folder / HISTORY_FOLDER).glob("epoch*.safetensors"))
    return [path for path in files if path.stem.removeprefix("epoch").isdecimal()]  # no browser's copy


def _read(path: Path) -> list[LayerMasks]:
    try:
        with safe_open(path, framework="pt") as file:
            starts = json.loads(file.metadata()[_LAYERS])
            return [
                LayerMasks(
                    fqn,
                    (kernel_size[0], kernel_size[1]),
                    p_init,
                    tuple(sigma_init),
                    *(file.get_tensor(f"{fqn}.{name}").double() for name in ("C", "log2p")),
                )
                for fqn, kernel_size, p_init, sigma_init in starts
            ]
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} must hold the masks of an epoch, as --track-masks keeps them: {error}.") from error


def pool_histories(folders: Sequence[Path]) -> History:
    """Return the masks of several trials together, at the epochs that all of them kept.

    Args:
        folders: The trials' folders.

    Raises:
        ValueError: If they kept none, or not of the same layers.
    """
    histories = [read_masks(folder) for folder in folders]
    epochs = sorted(set.intersection(*(set(history) for history in histories)))
    if not epochs:
        raise ValueError(
            "`--animate` must be used with trials that kept the masks of each epoch, got "
            f"{', '.join(map(str, folders))}. Train with --track-masks."
        )
    return {epoch: pool([history[epoch] for history in histories]) for epoch in epochs}


def animate(name: str, history: History, path: Path) -> None:
    """Write a GIF of masks forming: a frame an epoch, each mask where it stays, in the order of their last sizes.

    Of networks with more than four layers, it shows the four whose masks end the furthest from round; of more than 40
    epochs, that many, evenly from first to last.

    Args:
        name: What the pictures call the network.
        history: What `read_masks` returned, with an epoch or more.
        path: Where to write it.

    Raises:
        ImportError: If matplotlib or Pillow is not installed.
    """
    from PIL import Image

    last = history[max(history)]
    orders = [(number, last[number].radius_in_kernel.argsort(stable=True)) for number in _least_round(last)]
    pictures = []
    for epoch in evenly(list(history), _MAX_FRAMES):
        ordered = [history[epoch][number].pick(order) for number, order in orders]
        picture = io.BytesIO()
        figure = plot_gallery(Group(f"{name}, epoch {epoch}", (), ordered), in_order=False)
        figure.savefig(picture, format="png", dpi=_DPI)
        pictures.append(Image.open(picture).convert("RGB"))
    palette, file = pictures[-1].quantize(_COLOURS), io.BytesIO()
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    write_bytes(path, file.getvalue())


def _least_round(layers: Sequence[LayerMasks]) -> list[int]:
    """Return the places of the layers whose masks have the largest median distortion, in the network's order."""
    gammas = [median(layer.conformation.gamma) for layer in layers]
    return sorted(sorted(range(len(gammas)), key=gammas.__getitem__)[-_MAX_LAYERS:])
