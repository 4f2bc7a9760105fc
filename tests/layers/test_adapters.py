"""peft's methods on Lp networks: each computes and merges what it says, or is refused when it is added."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import timm
import torch
from peft import LoraConfig, PeftMixedModel, PeftModel, get_peft_model, inject_adapter_in_model
from torch import Tensor, nn

from timm_lp import LpConv2d, lp_merge
from timm_lp.layers.adapters import is_adapter
from timm_lp.lora import lp_lora_config

TARGETS = ["layer1.0.conv1", "layer2.0.conv2"]


def network() -> nn.Module:
    """Return a small network whose adapted layers matter to its output."""
    torch.manual_seed(0)
    model = timm.create_model("lp2_resnet18", num_classes=3, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4:
                parameter.normal_(std=2 * parameter[0].numel() ** -0.5, generator=generator)
            if name.endswith("bn2.weight"):
                parameter.fill_(1)
    return model


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


@torch.no_grad()
def stir(model: nn.Module) -> nn.Module:
    """Move everything that an adapter trains."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return model


# Every method of peft that takes convolutions, and ignores their masks somewhere.
IGNORE: dict[str, Callable[..., Any]] = {
    "lora": LoraConfig,
    "dora": lambda **kwargs: LoraConfig(use_dora=True, **kwargs),
    "adalora": lambda **kwargs: peft.AdaLoraConfig(total_step=2, **kwargs),
    "boft": lambda **kwargs: peft.BOFTConfig(boft_block_size=2, **kwargs),
    "hira": lambda **kwargs: peft.HiraConfig(r=2, **kwargs),
    "hra": lambda **kwargs: peft.HRAConfig(r=2, **kwargs),
    "loha": peft.LoHaConfig,
    "lokr": peft.LoKrConfig,
    "oft": lambda **kwargs: peft.OFTConfig(oft_block_size=4, **kwargs),
}
EXACT: dict[str, Callable[[], Any]] = {
    "ia3": lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=TARGETS[:1]),
    "ln_tuning": lambda: peft.LNTuningConfig(target_modules=TARGETS),
    "modules_to_save": lambda: LoraConfig(target_modules=["fc"], modules_to_save=TARGETS),
    "linear_layers": lambda: peft.LoHaConfig(target_modules=["fc"]),
    "lp_lora": lambda: lp_lora_config(LoraConfig(target_modules=TARGETS)),
}


@pytest.mark.parametrize("method", IGNORE)
def test_methods_that_ignore_masks_are_refused(method: str) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = model.get_submodule(TARGETS[0])
    home = "lora" if method == "dora" else method
    message = (
        rf"`target_modules` must name no LpConv2d for this adapter \(\w+ of peft's {home}"
        r"\), got LpConv2d\(64, 8, .+\)\. It would ignore the masks\. Take LoRA, with `timm_lp\.lora\.lp_lora_config"
    )
    with pytest.raises(ValueError, match=message):
        get_peft_model(model, IGNORE[method](target_modules=TARGETS))
    assert model.get_submodule(TARGETS[0]) is layer
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("method", EXACT)
def test_methods_that_keep_masks_merge_exactly(method: str) -> None:
    adapted = get_peft_model(network(), EXACT[method]()).eval()
    base = run(network())
    torch.testing.assert_close(run(adapted), base)
    expected = run(stir(adapted))
    assert (expected - base).abs().max() > 0.01 * base.abs().max()
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(run(merged), expected, rtol=1e-4, atol=1e-4)
    assert sum(isinstance(module, LpConv2d) for module in merged.modules()) == len(
        [module for module in network().modules() if isinstance(module, LpConv2d)]
    )
    torch.testing.assert_close(run(lp_merge(merged)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["ia3", "ln_tuning", "modules_to_save"])
def test_methods_that_keep_masks_are_saved_and_loaded(method: str, tmp_path: Path) -> None:
    adapted = stir(get_peft_model(network(), EXACT[method]()).eval())
    adapted.save_pretrained(tmp_path)
    assert torch.equal(run(PeftModel.from_pretrained(network(), tmp_path)), run(adapted))


def test_what_lp_lora_saved_is_not_loaded_as_plain_lora(tmp_path: Path) -> None:
    adapted = stir(get_peft_model(network(), EXACT["lp_lora"]()).eval())
    adapted.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"would ignore the masks\..+`PeftModel\.from_pretrained\(..., config=...\)`"):
        PeftModel.from_pretrained(network(), tmp_path)
    loaded = PeftModel.from_pretrained(network(), tmp_path, config=lp_lora_config(LoraConfig.from_pretrained(tmp_path)))
    assert torch.equal(run(loaded), run(adapted))
    other = get_peft_model(network(), lp_lora_config(LoraConfig(target_modules=["conv1"])))
    with pytest.raises(ValueError, match="It would ignore the masks"):
        other.load_adapter(tmp_path, "other")


def test_other_ways_to_add_an_adapter() -> None:
    with pytest.raises(ValueError, match="It would ignore the masks"):
        inject_adapter_in_model(LoraConfig(target_modules=TARGETS), network())
    mixed = PeftMixedModel(network(), EXACT["lp_lora"]())
    with pytest.raises(ValueError, match="of peft's loha"):
        mixed.add_adapter("second", peft.LoHaConfig(target_modules=TARGETS))


def test_only_peft_makes_adapters() -> None:
    class Base(nn.Module):
        """Has peft's name for the layer that an adapter is around."""

        def __init__(self) -> None:
            super().__init__()
            self.base_layer = LpConv2d(3, 4, 3)

    assert not is_adapter(Base())
    adapted = get_peft_model(nn.Sequential(nn.Conv2d(3, 4, 3)), LoraConfig(target_modules=["0"]))
    assert [name for name, module in adapted.named_modules() if is_adapter(module)] == ["base_model.model.0"]
