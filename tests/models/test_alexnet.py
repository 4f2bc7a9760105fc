import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from .networks import NUM_CLASSES, assert_same, create, images, randomize

TAPS = {0: "features.1", 1: "features.4", 2: "features.11", 3: "features.12"}


@pytest.fixture(scope="module")
def torchvision_alexnet() -> nn.Module:
    torch.manual_seed(0)
    return randomize(torchvision.models.alexnet(num_classes=NUM_CLASSES)).eval()


@pytest.fixture
def alexnet(narrow_classics: None) -> nn.Module:
    return randomize(create("alexnet")).eval()


@pytest.mark.parametrize("size", [64, 224])
def test_logits_of_torchvisions_weights(torchvision_alexnet: nn.Module, size: int) -> None:
    overlay = {"state_dict": torchvision_alexnet.state_dict(), "num_classes": NUM_CLASSES}
    model = timm.create_model("alexnet.tv_in1k", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert_same(model(x), torchvision_alexnet(x))


def test_size_and_configuration() -> None:
    with torch.device("meta"):
        model = timm.create_model("alexnet")
    assert sum(p.numel() for p in model.parameters()) == 61_100_840
    assert model.pretrained_cfg["tag"] == "tv_in1k"
    assert model.forward_features(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 256, 6, 6)
    assert model.forward_features(torch.empty(1, 3, 63, 63, device="meta")).shape == (1, 256, 1, 1)  # the smallest


def test_own_weights_are_left_as_they_are(alexnet: nn.Module) -> None:
    overlay = {"state_dict": alexnet.state_dict(), "num_classes": NUM_CLASSES}
    loaded = timm.create_model("alexnet", pretrained=True, pretrained_cfg_overlay=overlay)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, alexnet.get_parameter(name)), name


@torch.no_grad()
def taps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the outputs of the features that `feature_info` names, one layer after the other."""
    outputs = {}
    for name, layer in model.features.named_children():
        x = layer(x.clone())
        outputs[f"features.{name}"] = x
    return {name: outputs[name] for name in TAPS.values()}


@pytest.mark.parametrize(("indices", "taken"), [(None, [0, 1, 2, 3]), (1, [3]), ([0, 2], [0, 2]), ([-1], [3])], ids=str)
@pytest.mark.parametrize("stop_early", [False, True])
def test_forward_intermediates(
    alexnet: nn.Module, indices: int | list[int] | None, taken: list[int], stop_early: bool
) -> None:
    x = images()
    expected = taps(alexnet, x)
    with torch.no_grad():
        final, features = alexnet.forward_intermediates(x, indices, norm=True, stop_early=stop_early)
        alone = alexnet.forward_intermediates(x, indices, stop_early=stop_early, intermediates_only=True)
    assert [info["module"] for info in alexnet.feature_info] == list(TAPS.values())
    assert len(features) == len(alone) == len(taken)
    for feature, other, index in zip(features, alone, taken, strict=True):
        assert torch.equal(feature, other)
        assert torch.equal(feature, expected[TAPS[index]])
    assert torch.equal(final, expected[TAPS[max(taken) if stop_early else 3]])


@pytest.mark.parametrize("arch", ["alexnet", "replknet31"])
def test_other_output_format_is_refused(arch: str, narrow_classics: None) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="`output_fmt` must be 'NCHW', got 'NLC'"):
        create(arch).forward_intermediates(torch.empty(1, 3, 64, 64), output_fmt="NLC")


@pytest.mark.parametrize(("indices", "last", "channels"), [([0, 1], 1, 192), (1, 3, 256)])
def test_prune_intermediate_layers(alexnet: nn.Module, indices: int | list[int], last: int, channels: int) -> None:
    x = images()
    expected = taps(alexnet, x)
    kept = alexnet.prune_intermediate_layers(indices, prune_head=last == 3)  # a head fits the last layer alone
    assert kept == (indices if isinstance(indices, list) else [last])
    assert f"features.{len(alexnet.features) - 1}" == TAPS[last]
    with torch.no_grad():
        assert torch.equal(alexnet.forward_intermediates(x, [last])[1][0], expected[TAPS[last]])
        assert torch.equal(alexnet(x), expected[TAPS[last]])
    assert alexnet.num_classes == 0
    assert alexnet.num_features == alexnet.head_hidden_size == channels
    alexnet.reset_classifier(5, "avg")
    assert alexnet(x).shape == (2, 5)


def test_pruning_can_keep_the_head(alexnet: nn.Module) -> None:
    x = images()
    with torch.no_grad():
        expected = alexnet(x)
        alexnet.prune_intermediate_layers([1, 3], prune_head=False)
        assert torch.equal(alexnet(x), expected)


@pytest.mark.parametrize("arch", ["alexnet", "replknet31"])
def test_a_new_classifier_is_of_the_networks_type(arch: str, narrow_classics: None) -> None:
    network = create(arch, num_classes=0).bfloat16()
    network.reset_classifier(5)
    assert network.get_classifier().weight.dtype == torch.bfloat16
