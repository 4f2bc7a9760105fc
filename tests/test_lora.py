"""LoRA adapters of the peft package on Lp networks: the function that they say, before and after merging."""

import copy
import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import timm
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from timm_lp import LpConv2d, lp_convert, lp_merge
from timm_lp.lora import lp_lora_config

from .layers.comparison import image, output_and_gradients, randomize
from .ops.reference import lp_conv2d_reference

LAYERS: dict[str, dict[str, Any]] = {
    "dense": {"kernel_size": 3, "padding": 1},
    "grouped": {"kernel_size": (2, 3), "groups": 2, "stride": (1, 2), "bias": False},
    "depthwise": {"kernel_size": 3, "padding": 2, "groups": 4, "dilation": 2},
    "pointwise": {"kernel_size": 1},
}
each_layer = pytest.mark.parametrize("arguments", LAYERS.values(), ids=LAYERS)
NETWORKS: dict[str, dict[str, Any]] = {
    "lp2_resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)},
    "lp16_convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
}
TARGETS = {"lp2_resnet18": ["conv1", "conv2", "fc"], "lp16_convnext_tiny": ["conv_dw", "stem.0", "mlp.fc1"]}


def adapted(model: nn.Module, targets: list[str], adapter: str = "default", **options: Any) -> PeftModel:
    """Return a network with an adapter that does something."""
    config = lp_lora_config(LoraConfig(target_modules=targets, **{"r": 2, "lora_alpha": 3, **options}))
    return stir(get_peft_model(model, config, adapter_name=adapter), adapter)


def stir(model: PeftModel, adapter: str = "default") -> PeftModel:
    generator = torch.Generator().manual_seed(len(adapter))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and f".{adapter}." in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def build_layer(arguments: dict[str, Any], dtype: torch.dtype = torch.float64) -> LpConv2d:
    layer = randomize(LpConv2d(4, 4, **arguments, dtype=dtype))
    assert isinstance(layer, LpConv2d)
    return layer


def build_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3, **NETWORKS[name]).eval()


def factors(model: nn.Module, adapter: str = "default") -> list[Tensor]:
    return [p for name, p in model.named_parameters() if "lora_" in name and f".{adapter}." in name]


def kernels(model: nn.Module) -> list[Tensor]:
    return [module.weight.detach().clone() for module in model.modules() if isinstance(module, LpConv2d)]


def photos() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def run(model: nn.Module) -> Tensor:
    return model(photos())


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@each_layer
@pytest.mark.parametrize("use_rslora", [False, True], ids=["", "rslora"])
def test_computes_what_it_says(arguments: dict[str, Any], use_rslora: bool) -> None:
    layer = build_layer(arguments)
    model = adapted(nn.Sequential(layer), ["0"], use_rslora=use_rslora)
    A, B = factors(model)
    scaling = 3 / 2**0.5 if use_rslora else 3 / 2
    x = image(4, (4, 5), torch.float64)

    def reference(x: Tensor) -> Tensor:
        update = torch.einsum("or,rihw->oihw", B[:, :, 0, 0], A)
        return lp_conv2d_reference(
            x,
            layer.weight + scaling * update,
            layer.bias,
            layer.C,
            layer.log2p,
            stride=layer.stride,
            padding=tuple((pixels, pixels) for pixels in layer.padding),
            dilation=layer.dilation,
            groups=layer.groups,
        )

    for value, expected in zip(
        output_and_gradients(model, x, A, B), output_and_gradients(reference, x, A, B), strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    assert not any(p.requires_grad for p in layer.parameters())


@each_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merging_is_exact(arguments: dict[str, Any], dtype: torch.dtype) -> None:
    layer = build_layer(arguments, dtype)
    model = adapted(nn.Sequential(layer), ["0"])
    before, x = layer.weight.clone(), image(dtype=dtype)
    rounding = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 32 * torch.finfo(dtype).eps}
    with torch.no_grad():
        base, expected = layer(x), model(x)
        assert (base - expected).abs().max() > 0.1 * base.abs().max()
        model.merge_adapter(safe_merge=True)
        torch.testing.assert_close(model(x), expected, **rounding)
        torch.testing.assert_close(layer(x), expected, **rounding)
        model.unmerge_adapter()
        torch.testing.assert_close(layer.weight, before, **rounding)
        torch.testing.assert_close(model.merge_and_unload()[0](x), expected, **rounding)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network(name: str) -> None:
    model = build_network(name)
    before, plain = kernels(model), run(model)
    network = get_peft_model(model, lp_lora_config(LoraConfig(target_modules=TARGETS[name], r=2)))
    assert_close(run(network), plain)
    assert not any(isinstance(module, LpConv2d) for n, module in network.named_modules() if "lora_" in n)
    expected = run(stir(network))
    assert not torch.allclose(expected, plain, rtol=0.1, atol=0.1)
    network.merge_adapter()
    assert_close(run(network), expected)
    network.unmerge_adapter()
    for kernel, original in zip(kernels(model), before, strict=True):
        torch.testing.assert_close(kernel, original)
    with network.disable_adapter():
        assert_close(run(network), plain)
    merged = network.merge_and_unload()
    assert_close(run(merged), expected)
    assert not any("lora" in key for key in merged.state_dict())
    assert_close(run(lp_merge(merged)), expected)


def test_training_moves_the_adapters_alone() -> None:
    network = adapted(build_network("lp2_resnet18"), TARGETS["lp2_resnet18"], lora_dropout=0.1).train()
    frozen = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    moved = {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in moved)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    nn.functional.cross_entropy(network(photos()), torch.tensor([0, 1])).backward()
    optimizer.step()
    parameters = dict(network.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())
    assert not any(torch.equal(parameters[name], value) for name, value in moved.items())
    expected = run(network.eval())
    assert_close(run(network.merge_and_unload()), expected)


def test_several_adapters() -> None:
    model = build_network("lp2_resnet18")
    network = adapted(model, TARGETS["lp2_resnet18"])
    first = run(network)
    network.add_adapter("more", lp_lora_config(LoraConfig(target_modules=["conv2"], r=3)))
    assert_close(run(network), first)
    stir(network, "more").set_adapter("more")
    second = run(network)
    assert not torch.allclose(second, first)
    network.base_model.set_adapter(["default", "more"])
    both = run(network)
    network.merge_adapter(["default"])
    network.unmerge_adapter()
    network.merge_adapter()
    assert_close(run(network), both)
    network.unmerge_adapter()
    network.delete_adapter("default")
    network.set_adapter("more")
    assert_close(run(network), second)


def test_an_adapter_without_the_layer() -> None:
    layers = nn.Sequential(build_layer(LAYERS["dense"]), build_layer(LAYERS["dense"]))
    network = adapted(layers, ["0"])
    network.add_adapter("other", lp_lora_config(LoraConfig(target_modules=["1"], r=2)))
    stir(network, "other").base_model.set_adapter(["default", "other"])
    x = image(dtype=torch.float64)
    expected = network(x)
    network.merge_adapter()
    torch.testing.assert_close(network(x), expected)


@each_layer
def test_dropout_drops_the_updates_input(arguments: dict[str, Any]) -> None:
    layer, x = build_layer(arguments), image(dtype=torch.float64)
    model = adapted(nn.Sequential(layer), ["0"], lora_dropout=0.5)
    A, B = factors(model)
    update = 3 / 2 * torch.einsum("or,rihw->oihw", B[:, :, 0, 0], A)
    torch.manual_seed(0)
    dropped = nn.functional.dropout(x, 0.5)
    expected = layer(x) + layer._conv_forward(dropped, update * layer.mask(), None)
    torch.manual_seed(0)
    torch.testing.assert_close(model.train()(x), expected)
    torch.testing.assert_close(model.eval()(x), layer(x) + layer._conv_forward(x, update * layer.mask(), None))


def test_saved_and_loaded(tmp_path: Path) -> None:
    targets = TARGETS["lp2_resnet18"]
    network = adapted(build_network("lp2_resnet18"), targets)
    expected = run(network)
    network.save_pretrained(tmp_path)
    config = lp_lora_config(LoraConfig.from_pretrained(tmp_path))
    loaded = PeftModel.from_pretrained(build_network("lp2_resnet18"), tmp_path, config=config)
    assert torch.equal(run(loaded), expected)
    loaded.load_adapter(tmp_path, "again")
    loaded.set_adapter("again")
    assert torch.equal(run(loaded), expected)


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_copies(copied: Callable[[nn.Module], nn.Module]) -> None:
    network = adapted(build_network("lp2_resnet18"), ["conv1", "conv2"])
    twin = copied(network)
    assert torch.equal(run(twin), run(network))
    expected = run(network)
    assert_close(run(twin.merge_and_unload()), expected)
    assert torch.equal(run(network), expected)


def test_compile() -> None:
    network = adapted(nn.Sequential(build_layer(LAYERS["dense"])), ["0"])
    compiled, x = torch.compile(network, backend="aot_eager"), image(dtype=torch.float64)
    for value, expected in zip(
        output_and_gradients(compiled, x, *factors(network)),
        output_and_gradients(network, x, *factors(network)),
        strict=True,
    ):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("init", [True, False, "gaussian"])
def test_initialisation(init: bool | str) -> None:
    layer = build_layer(LAYERS["grouped"])
    A, B = factors(
        get_peft_model(
            nn.Sequential(layer), lp_lora_config(LoraConfig(target_modules=["0"], r=2, init_lora_weights=init))
        )
    )
    assert A.shape == (2, 2, 2, 3)
    assert B.shape == (4, 2, 1, 1)
    assert A.all()
    assert bool(B.any()) == (init is False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "Invalid or unsupported variant combination: .'use_dora',."),
        ({"lora_bias": True}, r"`lora_bias` must be False for LpConv2d, got True\. An adapter"),
        ({"init_lora_weights": "pissa"}, r"`init_lora_weights` must be True, False or 'gaussian' .+ got 'pissa'\."),
        ({"rank_pattern": {"0": 0}}, r"`r` must be a positive integer, got 0\."),
    ],
    ids=["dora", "bias", "pissa", "rank"],
)
def test_what_is_not_plain_lora(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapted(nn.Sequential(build_layer(LAYERS["dense"])), ["0"], **options)


def add_hook(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, args, output: None)


@pytest.mark.parametrize(
    ("change", "problem"), [(add_hook, "hooks"), (parametrizations.weight_norm, "a parametrized kernel")]
)
def test_layers_whose_kernel_is_not_the_last_word(change: Callable[[nn.Module], Any], problem: str) -> None:
    layer = build_layer(LAYERS["dense"])
    change(layer)
    with pytest.raises(
        ValueError,
        match=rf"`base_layer` must have no hooks and no parametrized kernel, got LpConv2d.+ with {problem}\.",
    ):
        adapted(nn.Sequential(layer), ["0"])


def test_adapters_are_merged_before_the_masks() -> None:
    network = adapted(build_network("lp2_resnet18"), ["conv1"])
    merged = lp_merge(network)
    with pytest.raises(TypeError, match=r"`base_layer` must be an LpConv2d, got Conv2d\. Merge the adapters"):
        run(merged)
    assert_close(run(lp_merge(network.merge_and_unload())), run(network))


def test_one_adapter_for_each_image() -> None:
    network = adapted(nn.Sequential(build_layer(LAYERS["dense"])), ["0"]).eval()
    with pytest.raises(
        ValueError, match=r"`adapter_names` must not be given .+, got \['default', '__base__'\]\. Choose"
    ):
        network(image(dtype=torch.float64), adapter_names=["default", "__base__"])


def test_nothing_to_unmerge() -> None:
    network = adapted(nn.Sequential(build_layer(LAYERS["dense"])), ["0"])
    with pytest.warns(UserWarning, match="Already unmerged"):
        network.unmerge_adapter()


def test_an_adapter_that_is_not_finite() -> None:
    layer = build_layer(LAYERS["dense"])
    network, before = adapted(nn.Sequential(layer), ["0"]), layer.weight.clone()
    factors(network)[0].data.fill_(float("nan"))
    with pytest.raises(ValueError, match="`default` must have finite weights to be merged"):
        network.merge_adapter(safe_merge=True)
    assert torch.equal(layer.weight, before)


def test_other_layers_are_adapted_as_ever() -> None:
    layers = nn.Sequential(lp_convert(nn.Conv2d(3, 4, 3, padding=1)), nn.Conv2d(4, 4, 3, padding=1))
    network = adapted(layers, ["0", "1"])
    assert type(network.base_model.model[1]) is peft.tuners.lora.Conv2d
    expected = run(network)
    assert_close(run(network.merge_and_unload()), expected)


@pytest.mark.parametrize(
    "config", [{"r": 8}, AdaLoraConfig(total_step=1, target_modules=["0"])], ids=["dict", "adalora"]
)
def test_other_configurations(config: Any) -> None:
    with pytest.raises(TypeError, match=rf"`config` must be a peft\.LoraConfig, got {type(config).__name__}\."):
        lp_lora_config(config)


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LoraConfig(target_modules=["0"])
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "timm_lp.lora")
    lora = importlib.import_module("timm_lp.lora")
    with pytest.raises(ImportError, match=r"`lp_lora_config` needs peft 0\.20 or newer: pip install"):
        lora.lp_lora_config(config)


def test_an_older_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft, "__version__", "0.19.1")
    monkeypatch.delitem(sys.modules, "timm_lp._lora_layer", raising=False)
    with pytest.raises(ImportError, match=r"`lp_lora_config` needs peft 0\.20 or newer: pip install"):
        lp_lora_config(LoraConfig(target_modules=["0"]))


def test_a_network_with_adapters_is_not_converted() -> None:
    network = timm.create_model("resnet18", layers=(1, 1, 1, 1), channels=(8, 8, 8, 8))
    adapted = get_peft_model(network, LoraConfig(target_modules=["conv1"]))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    with pytest.raises(ValueError, match=r"must have no adapters yet, got PeftModel with one of peft's at '.*conv1'"):
        lp_convert(adapted, kernel_scale=1)
    after = adapted.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
