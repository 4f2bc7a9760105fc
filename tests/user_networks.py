"""Networks as a user's package could have them, which timm does not know."""

from typing import Any, ClassVar

from torch import Tensor, nn


class Tiny(nn.Module):
    """A depthwise and an ordinary convolution, and a classifier, for images of 16 pixels alone."""

    default_cfg: ClassVar[dict[str, Any]] = {"input_size": (3, 16, 16)}

    def __init__(self, num_classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width))
        self.head = nn.Linear(width * 64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).relu()).relu().flatten(1))


class Pair(Tiny):
    """Returns its logits twice, as networks with a second classifier for training do."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), super().forward(x)


def tiny(**kwargs: Any) -> Tiny:
    return Tiny(**kwargs)


def unannotated(num_classes: int):  # type: ignore[no-untyped-def] # noqa: ANN201
    return Tiny(num_classes)


class Fixed(nn.Module):
    """Does not take a number of classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, outputs, 1)
