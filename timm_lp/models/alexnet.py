"""AlexNet, which timm lacks: one of the paper's base networks (Table 1).

The single-column network of Krizhevsky 2014 (https://arxiv.org/abs/1404.5997), as torchvision has it; its classifier
is written as convolutions, the way timm writes VGG's.
"""

from typing import Any

import torch
from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, checkpoint, generate_default_cfgs, register_model
from timm.models.vgg import VGG, ConvMlp
from torch import Tensor, nn

from .checkpoint import rename_linear_classifier

__all__ = ["AlexNet"]

_NUM_FEATURES = 256
_HIDDEN_SIZE = 4096


class AlexNet(VGG):
    """AlexNet with timm's model interface, that of its VGG with other layers.

    Args:
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the input.
        global_pool: Pooling in front of the classifier.
        drop_rate: Dropout after both hidden layers of the classifier, a fraction.
        device: As in `nn.Module`.
        dtype: As in `nn.Module`.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.5,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        nn.Module.__init__(self)
        dd = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = _NUM_FEATURES
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 64, kernel_size=11, stride=4, padding=2, **dd),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2, **dd),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1, **dd),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1, **dd),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, _NUM_FEATURES, kernel_size=3, padding=1, **dd),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.feature_ends = [1, 4, 11, 12]
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": f"features.{end}"}
            for end, channels, reduction in zip(self.feature_ends, (64, 192, 256, 256), (4, 8, 16, 32), strict=True)
        ]
        self.pre_logits = ConvMlp(_NUM_FEATURES, _HIDDEN_SIZE, kernel_size=6, drop_rate=drop_rate, **dd)
        self.head = ClassifierHead(_HIDDEN_SIZE, num_classes, pool_type=global_pool, drop_rate=drop_rate, **dd)
        self.head_hidden_size = self.head.num_features

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade computation for memory: keep only the input of the features for the backward pass."""
        self.grad_checkpointing = enable

    def forward_intermediates(self, x: Tensor, *args: Any, output_fmt: str = "NCHW", **kwargs: Any) -> Any:
        """Return the outputs of the layers that `feature_info` names, as timm's VGG does.

        Raises:
            ValueError: If `output_fmt` is not `"NCHW"`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"`output_fmt` must be 'NCHW', got {output_fmt!r}.")
        return super().forward_intermediates(x, *args, **kwargs)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features of images `(N, C, H, W)`, shape `(N, 256, H / 32, W / 32)`."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint(self.features, x)
        return self.features(x)


def rename_torchvision(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's state dict under this network's names."""
    if "classifier.1.weight" not in state_dict:
        return state_dict
    names = {"classifier.1": "pre_logits.fc1", "classifier.4": "pre_logits.fc2", "classifier.6": "head.fc"}
    return rename_linear_classifier(state_dict, names, kernels={"classifier.1": 6, "classifier.4": 1})


default_cfgs = generate_default_cfgs(
    {
        "alexnet.tv_in1k": {
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (6, 6),
            "min_input_size": (3, 63, 63),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "first_conv": "features.0",
            "classifier": "head.fc",
            "license": "bsd-3-clause",
            "origin_url": "https://github.com/pytorch/vision",
            "paper_ids": "arXiv:1404.5997",
        }
    }
)


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> AlexNet:
    """AlexNet (https://arxiv.org/abs/1404.5997), with torchvision's weights."""
    return build_model_with_cfg(
        AlexNet,
        "alexnet",
        pretrained,
        pretrained_filter_fn=rename_torchvision,
        feature_cfg={"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
        **kwargs,
    )
