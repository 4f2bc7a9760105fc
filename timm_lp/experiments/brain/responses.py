"""The responses file: images, what the areas of a cortex answered to them, and where both come from."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import UNREADABLE, failures_name

MIN_IMAGES = 8

_RSM, _RESPONSES, _MOUSE = "rsm_", "responses_", "mouse_"
_ABOUT = {"source": str, "centred": bool, "synthetic": bool}
_TOLERANCE = 1e-3

_ZIP = b"PK\x03\x04"
_OTHERS = {  # by how they begin
    b"MATLAB 7.3": ", a MATLAB file that h5py.File reads",
    b"MATLAB": ", a MATLAB file that scipy.io.loadmat reads",
    b"\x89HDF": ", an HDF5 or netCDF file that h5py.File reads (rsatoolbox.rdm.load_rdm, if it is rsatoolbox's)",
    b"CDF": ", a netCDF file that scipy.io.netcdf_file reads",
    b"\x80": ", a pickle (rsatoolbox.rdm.load_rdm reads rsatoolbox's)",
    b"\x93NUMPY": ", a single array that numpy.load reads",
}
_RECIPE = (
    "Write its arrays by numpy.savez('responses.npz', responses_AREA=array, about=json.dumps({'source': '...', "
    "'centred': True, 'synthetic': False})), shape (images, trials, units), or rsm_AREA=1 - RDM."
)


@dataclass(frozen=True)
class Area:
    """What one area of a cortex answered to `n` images.

    Attributes:
        responses: Shape `(n, trials, units)`, None where only similarities are known.
        rsm: Similarities of the images, shape `(n, n)`, None where responses are known.
        mice: The mouse of each unit, shape `(units,)`, None where it is not known.
        published_ceiling: Kendall's tau that whoever measured the area calls the most that can be reached.
    """

    responses: NDArray[np.floating] | None = None
    rsm: NDArray[np.floating] | None = None
    mice: NDArray[Any] | None = None
    published_ceiling: float | None = None

    @property
    def num_images(self) -> int:
        """Number of the images."""
        (array,) = (array for array in (self.responses, self.rsm) if array is not None)
        return len(array)


@dataclass(frozen=True)
class Responses:
    """What a responses file holds.

    Attributes:
        areas: By name, in the file's order.
        source: Where responses and images come from.
        centred: Whether each unit's mean over the images is subtracted before images are compared, in the cortex and
            in the networks.
        synthetic: Whether a program made them up.
        images: Grey `(n, H, W)` or RGB `(n, H, W, 3)`, uint8; None where the file has none.
        image_id: Names of the images, shape `(n,)`, None where they have none.
    """

    areas: Mapping[str, Area]
    source: str
    centred: bool
    synthetic: bool
    images: NDArray[np.uint8] | None = None
    image_id: NDArray[Any] | None = None

    @property
    def num_images(self) -> int:
        """Number of the images."""
        return next(iter(self.areas.values())).num_images


def read_responses(path: Path) -> Responses:
    """Return the contents of a responses file, checked.

    Args:
        path: An `.npz` as the README of this folder describes it.

    Raises:
        ValueError: If it is none, or something in it cannot be used; the message says what.
        OSError: If it cannot be read.
    """
    arrays = _arrays(path)
    about = _about(arrays.get("about"))
    ceilings = about.get("ceiling", {})
    areas = {area: _area(arrays, area, ceilings.get(area)) for area in _area_names(arrays)}
    unknown = [name for name in ceilings if name not in areas]
    if unknown:
        raise ValueError(f"`about` must give ceilings of areas in the file, got {', '.join(unknown)}. Remove them.")
    responses = Responses(
        areas, about["source"], about["centred"], about["synthetic"], arrays.get("images"), arrays.get("image_id")
    )
    _check_counts(responses)
    if responses.images is not None:
        check_images(responses.images, "images")
    return responses


def write_responses(path: Path, responses: Responses) -> None:
    """Write a responses file that is complete or not there."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, area in responses.areas.items():
        for prefix, array in ((_RESPONSES, area.responses), (_RSM, area.rsm), (_MOUSE, area.mice)):
            if array is not None:
                arrays[prefix + name] = array
    for name, array in (("images", responses.images), ("image_id", responses.image_id)):
        if array is not None:
            arrays[name] = array
    ceilings = {name: area.published_ceiling for name, area in responses.areas.items() if area.published_ceiling}
    about = {"source": responses.source, "centred": responses.centred, "synthetic": responses.synthetic}
    arrays["about"] = np.array(json.dumps({**about, **({"ceiling": ceilings} if ceilings else {})}))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with failures_name(path), partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # numpy's stubs take the arrays for a flag
    os.replace(partial, path)


def check_images(images: NDArray[Any], name: str) -> None:
    """Refuse images of another type or shape, and those without variance.

    Raises:
        ValueError: If they cannot be used.
    """
    grey_or_rgb = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not grey_or_rgb:
        raise ValueError(
            f"`{name}` must be uint8 of shape (n, H, W) or (n, H, W, 3), got {images.dtype} {images.shape}."
        )
    flat = images.reshape(len(images), -1)
    _refuse_rows(flat.min(1) == flat.max(1), f"`{name}` must vary within each image", "one grey everywhere")


def check_responses(responses: NDArray[Any], name: str) -> None:
    """Refuse responses that no image can be compared by.

    Args:
        responses: Shape `(n, trials, units)`.
        name: What they are called.

    Raises:
        ValueError: If one is no finite number, there are fewer than two units, or an image has the same mean response
            in all of them.
    """
    if responses.shape[2] < 2 or responses.shape[1] < 1:
        raise ValueError(
            f"`{name}` must have a trial and two units at least, got {responses.shape}. Leave the area out."
        )
    wrong = ~np.isfinite(responses).all((1, 2))
    _refuse_rows(
        wrong, f"`{name}` must be finite", "NaN or infinity", "Leave out units or trials that were not recorded."
    )
    means = responses.mean(1, dtype=np.float64)
    constant = means.min(1) == means.max(1)
    _refuse_rows(constant, f"`{name}` must differ between the units for each image", "the same response everywhere")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as stream:  # numpy leaves a broken file open
        start = stream.read(20)
        stream.seek(0)
        if not start.startswith(_ZIP):
            raise _no_npz(path, next((kind for magic, kind in _OTHERS.items() if start.startswith(magic)), ""))
        try:
            file = np.load(stream, allow_pickle=False)
            arrays = {name: file[name] for name in file.files}
        except UNREADABLE as error:
            what = "holds objects" if "allow_pickle" in str(error) else f"is damaged ({error})"
            raise _no_npz(path, f", which {what}") from error
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise _no_npz(path, f", an archive with {others[0]}")
    return arrays


def _no_npz(path: Path, what: str) -> ValueError:
    return ValueError(f"`--responses` must be an .npz of arrays without objects, got {path}{what}. {_RECIPE}")


def _about(text: NDArray[Any] | None) -> dict[str, Any]:
    """Return what the file says about itself."""
    try:
        about = {} if text is None else json.loads(str(text))
    except ValueError as error:
        raise ValueError(f"`about` must be a JSON text, got {str(text)!r:.60}: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(f"`about` must be a JSON object, got {about!r:.60}. The README lists its entries.")
    for name, kind in _ABOUT.items():
        if not isinstance(about.get(name), kind):
            raise ValueError(
                f"`about` must say `{name}`, a {kind.__name__}, got {about.get(name)!r}. "
                "The README of timm_lp/experiments/brain says what each entry means."
            )
    ceilings = about.get("ceiling", {})
    if not isinstance(ceilings, dict) or not all(_is_ceiling(value) for value in ceilings.values()):
        raise ValueError(f"`about` must give ceilings as taus above 0 and up to 1 by area, got {ceilings!r:.80}.")
    return about


def _is_ceiling(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _area_names(arrays: Mapping[str, Any]) -> list[str]:
    names = [name.removeprefix(prefix) for name in arrays for prefix in (_RSM, _RESPONSES) if name.startswith(prefix)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"`{_RSM}{twice[0]}` and `{_RESPONSES}{twice[0]}` must not both be in the file. Keep the responses."
        )
    if not names:
        raise ValueError(
            f"`--responses` must have an array `{_RESPONSES}AREA` or `{_RSM}AREA`, got {', '.join(arrays) or 'none'}."
        )
    return names


def _area(arrays: Mapping[str, NDArray[Any]], area: str, published_ceiling: float | None) -> Area:
    mice = arrays.get(_MOUSE + area)
    if _RSM + area in arrays:
        rsm = arrays[_RSM + area]
        _check_rsm(rsm, _RSM + area)
        if mice is not None:
            raise ValueError(f"`{_MOUSE}{area}` must stand beside responses, got it beside `{_RSM}{area}`. Remove it.")
        return Area(rsm=rsm, published_ceiling=published_ceiling)
    responses, name = arrays[_RESPONSES + area], _RESPONSES + area
    if responses.ndim not in (2, 3) or responses.dtype.kind not in "fiu":
        raise ValueError(
            f"`{name}` must be numbers of shape (n, units) or (n, trials, units), got {responses.dtype} "
            f"{responses.shape}."
        )
    responses = responses[:, None] if responses.ndim == 2 else responses
    check_responses(responses, name)
    if mice is not None and mice.shape != responses.shape[2:]:
        raise ValueError(f"`{_MOUSE}{area}` must name the mouse of {responses.shape[2]} units, got shape {mice.shape}.")
    return Area(responses, mice=mice, published_ceiling=published_ceiling)


def _check_rsm(rsm: NDArray[Any], name: str) -> None:
    if rsm.ndim != 2 or rsm.shape[0] != rsm.shape[1] or rsm.dtype.kind != "f":
        raise ValueError(f"`{name}` must be numbers of shape (n, n), got {rsm.dtype} {rsm.shape}.")
    _refuse_rows(~np.isfinite(rsm).all(1), f"`{name}` must be finite", "NaN or infinity")
    if np.abs(rsm - rsm.T).max() > _TOLERANCE:
        raise ValueError(f"`{name}` must be symmetric, got entries that differ by {np.abs(rsm - rsm.T).max():.3g}.")
    wrong = rsm.diagonal()[np.abs(rsm.diagonal() - 1) > _TOLERANCE]
    if len(wrong):
        raise ValueError(f"`{name}` must be similarities with 1 on the diagonal, got {wrong[0]:.3g}. Take 1 - RDM.")
    pairs = rsm[np.tril_indices(len(rsm), -1)]
    if pairs.size and pairs.min() == pairs.max():
        raise ValueError(f"`{name}` must differ between pairs of images, got {pairs[0]:.3g} everywhere.")


def _check_counts(responses: Responses) -> None:
    """Refuse arrays of different numbers of images, and too few images."""
    counts = {name: area.num_images for name, area in responses.areas.items()}
    for name, array in (("images", responses.images), ("image_id", responses.image_id)):
        if array is not None:
            counts[name] = len(np.atleast_1d(array))
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"`--responses` must have as many images everywhere, got {listed}. Keep those that all share.")
    if responses.num_images < MIN_IMAGES:
        raise ValueError(f"`--responses` must have {MIN_IMAGES} images at least, got {responses.num_images}.")
    ids = responses.image_id
    if ids is not None and (ids.ndim != 1 or len(np.unique(ids)) < len(ids)):
        raise ValueError(
            f"`image_id` must name each image once, shape (n,), got {ids.shape} with {len(np.unique(ids))} names."
        )


def _refuse_rows(wrong: NDArray[np.bool_], rule: str, got: str, advice: str = "Leave these images out.") -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        listed = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise ValueError(f"{rule}, got {got} at {listed} (counted from 0). {advice}")
