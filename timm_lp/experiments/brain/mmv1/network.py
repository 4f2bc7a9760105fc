"""The reference network of Table 5: a shifter, three convolutions, behaviour, and a GRU (Xu et al., 2024)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, softplus

from ....convert import lp_convert
from ....variants import BASE, PAPER, VARIANTS, variant_prefix
from .data import EYE_AND_HEAD, NUM_FEATURES

BEHAVIOUR = "behaviour"  # the variant that sees nothing, the baseline

CHANNELS = (128, 64, 32)
HIDDEN = 512

_KERNEL, _STRIDE = 7, 2
_SHIFT = 1 / 5.5  # greatest shift, of the video's width and height
_TURN = 45.0  # greatest rotation, degrees


class Shifter(nn.Module):
    """Tells from the eye and the head how far the picture on the retina is shifted and turned."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        inputs = len(EYE_AND_HEAD)
        self.layers = nn.Sequential(
            *(nn.BatchNorm1d(inputs), nn.Linear(inputs, hidden)),
            *(nn.BatchNorm1d(hidden), nn.Tanh(), nn.Linear(hidden, hidden)),
            *(nn.BatchNorm1d(hidden), nn.Tanh(), nn.Linear(hidden, 3), nn.Tanh()),
        )
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, eye_and_head: Tensor) -> Tensor:
        """Return the shift to the right and down, of the width and height, and the angle, degrees, shape `(N, 3)`."""
        return (self.layers(eye_and_head) + self.bias) * eye_and_head.new_tensor([_SHIFT, _SHIFT, _TURN])


def warp(frames: Tensor, shifts: Tensor) -> Tensor:
    """Return frames that are turned about their centre and shifted; what comes from outside is 0.

    Args:
        frames: Shape `(N, 1, H, W)`.
        shifts: To the right and down, of the width and height, and counter-clockwise, degrees, shape `(N, 3)`.
    """
    height, width = frames.shape[2:]
    angle = torch.deg2rad(shifts[:, 2])
    cos, sin = torch.cos(angle), torch.sin(angle)
    # In pixels: each takes its value from where the inverse of the rotation and shift leads.
    x, y = shifts[:, 0] * width, shifts[:, 1] * height
    to_x, to_y = 2 / (width - 1), 2 / (height - 1)  # from pixels to grid_sample's units
    rows = [
        torch.stack([cos, -sin * to_x / to_y, (-cos * x + sin * y) * to_x], dim=1),
        torch.stack([sin * to_y / to_x, cos, (-sin * x - cos * y) * to_y], dim=1),
    ]
    grid = affine_grid(torch.stack(rows, dim=1), list(frames.shape), align_corners=True)
    return grid_sample(frames, grid, align_corners=True)


class MMV1(nn.Module):
    """Predicts the spike counts of neurons from a few frames of video and behaviour.

    The norms see all frames of a batch at once; those of the published network see the frames one after the other.

    Args:
        neurons: Number of the neurons.
        frame_size: `(H, W)` of the video, pixels.
        channels: Of the three convolutions.
        hidden: Size of the GRU.
        video: Whether it sees the video; without, behaviour alone predicts.
    """

    def __init__(
        self,
        neurons: int,
        frame_size: tuple[int, int] = (60, 80),
        channels: tuple[int, int, int] = CHANNELS,
        hidden: int = HIDDEN,
        video: bool = True,
    ) -> None:
        super().__init__()
        self.behaviour = nn.Sequential(nn.BatchNorm1d(NUM_FEATURES), nn.Linear(NUM_FEATURES, neurons))
        if video:
            self.shifter = Shifter()
            self.vision = _vision(neurons, frame_size, channels)
        self.video = video
        parts = 3 if video else 1
        self.norm = nn.BatchNorm1d(parts)
        self.gru = nn.GRU(parts * neurons, hidden, batch_first=True)
        self.head = nn.Linear(hidden, neurons)

    @property
    def behaviour_weight(self) -> Tensor:
        """Weight of the layer that sees behaviour, shape `(neurons, 66)`; training keeps it sparse."""
        (weight,) = (layer.weight for layer in self.behaviour if isinstance(layer, nn.Linear))
        return weight

    def forward(self, video: Tensor, behaviour: Tensor) -> Tensor:
        """Return the expected spike counts of the bin after the last frame.

        Args:
            video: Shape `(N, frames, H, W)`.
            behaviour: Features of the same bins, shape `(N, frames, 66)`.

        Returns:
            Shape `(N, neurons)`, above 0.
        """
        batch, frames = behaviour.shape[:2]
        features = behaviour.flatten(0, 1)
        parts = [self.behaviour(features)]
        if self.video:
            images = warp(video.flatten(0, 1)[:, None], self.shifter(features[:, EYE_AND_HEAD]))
            seen = self.vision(images)
            parts = [seen, parts[0], seen * parts[0]]
        together = self.norm(torch.stack(parts, dim=1)).flatten(1)
        states, _ = self.gru(together.unflatten(0, (batch, frames)))
        return softplus(self.head(states[:, -1]))


def build_network(
    variant: str, neurons: int, frame_size: tuple[int, int], channels: tuple[int, int, int], hidden: int
) -> MMV1:
    """Return the network as a variant has it.

    Args:
        variant: `base`; `behaviour`, which sees nothing; or a variant of the paper, with or without `-paper`.
        neurons: Number of the neurons.
        frame_size: `(H, W)` of the video, pixels.
        channels: Of the three convolutions.
        hidden: Size of the GRU.

    Raises:
        ValueError: If there is no such variant.
    """
    check_variant(variant)
    network = MMV1(neurons, frame_size, channels, hidden, video=variant != BEHAVIOUR)
    prefix = variant_prefix(variant)
    for form in VARIANTS:
        if form.prefix == prefix:
            lp_convert(network, **{**form.conversion, **({"preserve": False} if variant == prefix + PAPER else {})})
    return network


def check_variant(variant: str) -> None:
    """Refuse a name that no variant has.

    Raises:
        ValueError: If it is such a name.
    """
    whole = [BASE, BEHAVIOUR, *(form.prefix for form in VARIANTS)]
    damped = [form.prefix + PAPER for form in VARIANTS if form.masked]
    if variant not in (*whole, *damped):
        raise ValueError(
            f"`--variants` must be of {', '.join(whole)}, those with masks also with {PAPER}, got {variant!r}."
        )


def _vision(neurons: int, frame_size: tuple[int, int], channels: tuple[int, int, int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *channels), channels, strict=False):
        layers += [nn.Conv2d(inputs, outputs, _KERNEL, _STRIDE), nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout(0.5)]
    height, width = frame_size
    for _ in channels:
        height, width = ((side - _KERNEL) // _STRIDE + 1 for side in (height, width))
    if min(height, width) < 1:
        raise ValueError(f"The video must have 43 x 43 pixels at least, got {frame_size[0]} x {frame_size[1]}.")
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, neurons))
