import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.models._features import FeatureHookNet
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from timm_lp import lp_convert, lp_merge

from .networks import Namesakes, names_of


def trained(name: str, **kwargs: Any) -> nn.Module:
    """Return a small network none of whose taps is 0 by its start."""
    generator = torch.Generator().manual_seed(0)
    model = timm.create_model(name, num_classes=3, **kwargs).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(std=module.weight[0].numel() ** -0.5, generator=generator)
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 40, 36, generator=torch.Generator().manual_seed(1))


def kernels(model: nn.Module) -> set[tuple[int, ...]]:
    return {module.kernel_size for module in model.modules() if isinstance(module, nn.Conv2d)}


NETWORKS = {
    "lp2_resnet18": {"channels": (16, 16, 16, 16)},
    "lp16_resnet18": {"channels": (16, 16, 16, 16)},
    "lp256f_convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)},
    "lp16_replknet31": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "kernel_sizes": (7, 7, 5, 5)},
}


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_merged_computes_the_same_and_leaves_the_model(name: str, crop: bool) -> None:
    model = trained(name, **NETWORKS[name])
    state = copy.deepcopy(model.state_dict())
    merged = lp_merge(model, crop=crop)
    assert {type(module) for module in merged.modules() if isinstance(module, nn.Conv2d)} == {nn.Conv2d}
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(merged(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_merged_fits_the_large_network() -> None:
    merged = lp_merge(trained("lp16_resnet18", **NETWORKS["lp16_resnet18"]))
    large = timm.create_model("large_resnet18", num_classes=3, **NETWORKS["lp16_resnet18"])
    large.load_state_dict(merged.state_dict())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lp16_resnet18", {(9, 9), (3, 3), (1, 1)}), ("lp2_resnet18", {(15, 15), (7, 7), (3, 3)})],
    ids=["lp16", "lp2"],
)
def test_cropping_takes_what_the_masks_leave(name: str, expected: set[tuple[int, ...]]) -> None:
    assert kernels(lp_merge(trained(name, **NETWORKS[name]), crop=True)) == expected


def test_a_bare_convolution() -> None:
    layer = lp_convert(nn.Conv2d(2, 3, 3, padding=1), 256, preserve=False)
    merged = lp_merge(layer, crop=True)
    assert type(merged) is nn.Conv2d
    assert (merged.kernel_size, merged.padding) == ((3, 3), (1, 1))
    x = torch.randn(1, 2, 6, 5)
    torch.testing.assert_close(merged(x), layer(x))


def test_a_convolution_under_two_names_stays_one() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    merged = lp_merge(lp_convert(nn.Sequential(conv, nn.ReLU(), conv), 16), crop=True)
    assert merged[0] is merged[2]
    assert merged[0].kernel_size == (3, 3)


@pytest.mark.parametrize("crop", [False, True])
def test_attributes_that_share_the_name_of_a_merge(crop: bool) -> None:
    model = lp_convert(Namesakes(), 16)
    merged = lp_merge(model, crop=crop)
    assert len(names_of(merged, nn.Conv2d)) == 4
    torch.testing.assert_close(merged(images()), model(images()))


def test_only_modules_are_taken() -> None:
    with pytest.raises(TypeError, match=r"`model` must be an nn\.Module, got 'resnet18'\. Build it first"):
        lp_merge("resnet18")


def test_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="`model` must have LpConv2d layers, got Sequential without"):
        lp_merge(nn.Sequential(nn.Conv2d(1, 1, 1)))


def converted() -> nn.Sequential:
    """Return two converted convolutions with another layer between them."""
    torch.manual_seed(0)
    return lp_convert(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)))


class Recorder:
    """Hooks of every kind that write down what they saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def before(self, module: nn.Module, args: Any) -> None:
        self.seen.append("before")

    def before_with_keywords(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.seen.append(f"before {[*kwargs]}")

    def after(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        self.seen.append("after")
        return output + 1

    def after_with_keywords(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        self.seen.append(f"after {[*kwargs]}")

    def always(self, module: nn.Module, args: Any, output: Any) -> None:
        self.seen.append("always")

    def before_backward(self, module: nn.Module, grad_output: Any) -> None:
        self.seen.append("before backward")

    def after_backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        self.seen.append("after backward")

    def register(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(self.before)
        module.register_forward_pre_hook(self.before_with_keywords, with_kwargs=True)
        module.register_forward_hook(self.after)
        module.register_forward_hook(self.after_with_keywords, with_kwargs=True)
        module.register_forward_hook(self.always, always_call=True)
        module.register_full_backward_pre_hook(self.before_backward)
        module.register_full_backward_hook(self.after_backward)


def merge_in_place(model: nn.Module) -> nn.Module:
    return reparameterize_model(model, inplace=True)


MERGES = {
    "lp_merge": lp_merge,
    "cropped": partial(lp_merge, crop=True),
    "timm": reparameterize_model,
    "timm_in_place": merge_in_place,
}


@pytest.mark.parametrize("merge", MERGES.values(), ids=MERGES)
def test_hooks_are_kept(merge: Callable[[nn.Module], nn.Module]) -> None:
    model, recorder = converted(), Recorder()
    model[0].recorder = recorder  # so that it is copied with the model, as a network's own hooks are
    recorder.register(model[0])
    model(images().requires_grad_())[0].sum().backward()
    expected, output = [*recorder.seen], model(images()).detach()
    recorder.seen.clear()
    merged = merge(model)
    assert type(merged[0]) is nn.Conv2d
    merged(images().requires_grad_())[0].sum().backward()
    (hook, *_) = merged[0]._forward_hooks.values()
    assert hook.__self__.seen == expected
    assert len(expected) == 7
    torch.testing.assert_close(merged(images()), output, rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError):
        merged[0](images()[:, :1])
    assert hook.__self__.seen[-1] == "always"
    assert (hook.__self__ is recorder) == (merge is merge_in_place)


def test_the_older_kind_of_backward_hook_is_kept() -> None:
    model = converted()
    model[0].register_backward_hook(lambda module, grad_input, grad_output: None)
    assert lp_merge(model)[0]._is_full_backward_hook is False
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full backward hooks"):
        lp_merge(model)[0].register_full_backward_hook(lambda module, grad_input, grad_output: None)


def test_features_that_hooks_collect() -> None:
    model = trained("lp2_resnet18", **NETWORKS["lp2_resnet18"])
    model.feature_info = [
        {"num_chs": 64, "reduction": 2, "module": "conv1", "hook_type": "forward"},
        {"num_chs": 16, "reduction": 4, "module": "layer1.0.conv2", "hook_type": "forward_pre"},
        {"num_chs": 16, "reduction": 8, "module": "layer2.1.conv2", "hook_type": "forward"},
    ]
    network = FeatureHookNet(model, out_indices=(0, 1, 2))
    merged = lp_merge(network)
    with torch.no_grad():
        for feature, expected in zip(merged(images()), network(images()), strict=True):
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(
    "make_weight", [partial(prune.l1_unstructured, name="weight", amount=0.5), weight_norm, spectral_norm]
)
def test_hooks_that_make_the_weight_end_with_it(make_weight: Callable[[nn.Module], nn.Module]) -> None:
    model = converted().eval()
    make_weight(model[0])
    with torch.no_grad():
        expected = model(images())  # after which the weight can be copied
    merged = lp_merge(model)
    assert merged.state_dict().keys() == lp_merge(converted()).state_dict().keys()
    torch.testing.assert_close(merged(images()).detach(), expected, rtol=1e-4, atol=1e-4)


def test_hooks_that_would_be_lost_are_refused() -> None:
    model = trained("lp16_replknet31", **NETWORKS["lp16_replknet31"])
    name = "stages.0.blocks.0.large_kernel.lkb_origin.conv"
    handle = model.get_submodule(name).register_forward_hook(lambda module, args, output: None)
    with pytest.raises(
        ValueError,
        match=rf"`model` must have no hooks on layers that are merged with others, got some on '{name}'\. Re",
    ):
        lp_merge(model)
    handle.remove()
    lp_merge(model)
