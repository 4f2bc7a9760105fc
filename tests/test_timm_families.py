"""The smallest network of each of timm's families, converted, trained for a step and merged.

A handful run with all tests; `pytest -m families` runs every one, and says which families are not listed.
"""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.models import list_models, list_modules
from torch import Tensor, nn

from timm_lp import LpConv2d, lp_convert, lp_merge

from .networks import randomize

NETWORKS = """
    beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
    test_convnext cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m
    deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
    test_efficientnet efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0
    fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
    hrnet_w18_small iformer_t inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small
    levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
    mobilenetv5_base mobilevit_xxs mvitv2_tiny nasnetalarge nest_tiny nextvit_small test_nfnet pit_ti_224
    pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d
    test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit vit_tiny_r_s16_p8_224
    test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception
    xception41p xcit_nano_12_p8_224
""".split()
WITHOUT_CONVOLUTIONS = {"gemma4_vit", "naflexvit"}
STANDARDIZED = "test_nfnet"  # every kernel of its family is standardized in a forward of its own
ALWAYS = ("dla46x_c", "test_byobnet", "test_mambaout", "test_vit_relpos", STANDARDIZED)
SMALLER: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": {"depth": 2},
    "deepseek_vit_412m": {"depth": 2},
    "mobilenetv5_base": {"channel_multiplier": 0.25},
    "qwen3_vit_88m": {"depth": 2},
    "samvit_base_patch16_224": {"depth": 2},
    "vgg11": {"mlp_ratio": 1 / 64},
}
SIZE = 64  # pixels, of networks that take any size
OTHER_SIZES = {
    "deepseek_vit_412m": 84,
    "halonet_h1": 256,
    **dict.fromkeys(["inception_resnet_v2", "inception_v3", "inception_v4"], 96),
}
LARGE = 40e6  # parameters from which the kernels keep their size, to save memory
SMALL_ERROR = 1e-6  # of what another image changes; float64 leaves less than 1e-9
MERGED_ERROR = 1e-4  # some of timm's blocks make the merged layer in float32


@torch.no_grad()
def base_network(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network in float64 whose outputs hang on the image, and two images for it."""
    torch.manual_seed(0)
    model = randomize(timm.create_model(name, num_classes=10, **SMALLER.get(name, {})).double())
    config: Any = model.pretrained_cfg
    size = config["input_size"][1:] if config.get("fixed_input_size") else [OTHER_SIZES.get(name, SIZE)] * 2
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # with the images' own statistics it lets the signal through
            module.reset_running_stats()
            module.momentum = None
    model.train()(images)
    return model.eval(), images


@torch.no_grad()
def error(model: nn.Module, images: Tensor, expected: Tensor) -> float:
    """Return the largest error of a network's outputs, relative to what the image changes in them."""
    output = model(images)
    assert output.isfinite().all()
    return ((output - expected).abs().max() / (expected[0] - expected[1]).abs().max()).item()


@torch.no_grad()
def stir(model: nn.Module) -> None:
    """Give the taps around the kernels, which start at 0, values, and each mask a shape of its own."""
    for module in model.modules():
        if isinstance(module, LpConv2d):
            module.weight.add_(0.3 * module.weight.std() * torch.randn_like(module.weight))
            module.C.mul_(0.8 + 0.4 * torch.rand_like(module.C))


@pytest.mark.parametrize(
    "name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.families) for name in NETWORKS]
)
def test_the_smallest_network_of_a_family(name: str) -> None:
    model, images = base_network(name)
    if name == STANDARDIZED:
        with pytest.raises(ValueError, match=r"must have a convolution to convert.+ it has a forward of its own: stem"):
            lp_convert(model)
        return
    with torch.no_grad():
        expected = model(images)
    scale = 1 if sum(p.numel() for p in model.parameters()) > LARGE else 2
    for arguments in ({"masked": False}, {"p_init": 1}, {"p_init": 16}):
        converted = lp_convert(copy.deepcopy(model), kernel_scale=scale, **arguments)
        assert error(converted, images, expected) < SMALL_ERROR, arguments
    del model
    stir(converted)
    with torch.no_grad():
        expected = converted(images)
    for crop in (False, True):
        merged = lp_merge(converted, crop=crop).double()
        assert not any(isinstance(module, LpConv2d) for module in merged.modules())
        assert error(merged, images, expected) < MERGED_ERROR
        del merged
    output = converted.float().train()(images.float())  # by the fast operators
    sum(head.square().mean() for head in ([output] if isinstance(output, Tensor) else output)).backward()
    for fqn, module in converted.named_modules():
        if isinstance(module, LpConv2d):
            for parameter in (module.weight, module.C, module.log2p):
                assert parameter.grad is not None, fqn
                assert parameter.grad.isfinite().all(), fqn


@pytest.mark.families
def test_every_family_is_listed() -> None:
    ours = {"alexnet", "lp_models", "replknet", "small_stem"}
    missing = [
        module
        for module in list_modules()
        if module not in WITHOUT_CONVOLUTIONS | ours and not {*NETWORKS} & {*list_models(module=module)}
    ]
    assert missing == []
