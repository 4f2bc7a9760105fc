"""Training under autocast to bfloat16, through all that may stand around a layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from timm_lp.layers import LpConv2d

from ..distributed import one_process
from .comparison import image, randomize, relative_error, seeded

ROUNDING = 2**-8  # of bfloat16; sums of several are off by a few times as much
Results = tuple[Tensor, dict[str, Tensor]]


def build() -> LpConv2d:
    layer = randomize(LpConv2d(4, 8, 5, padding=2, p_init=4))
    assert isinstance(layer, LpConv2d)
    return layer


def loss_of(output: Tensor) -> Tensor:
    return (output.float() * torch.randn(output.shape, generator=seeded(2))).mean()


def trained(model: Callable[[Tensor], Tensor], parameters: dict[str, nn.Parameter]) -> Results:
    with torch.autocast("cpu", torch.bfloat16):
        output = model(image())
    loss_of(output).backward()
    gradients = {}
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        whole = getattr(parameter.grad, "full_tensor", lambda grad=parameter.grad: grad)
        gradients[name] = whole()
    return output.detach(), gradients


def assert_as_the_formula(results: Results) -> None:
    """Compare with the formula in float32; the output is in bfloat16."""
    layer = build()
    output = F.conv2d(image(), layer.weight * layer.mask(), layer.bias, padding=2)
    loss_of(output).backward()
    assert results[0].dtype is torch.bfloat16
    assert relative_error(results[0].float(), output.detach()) < 4 * ROUNDING
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert results[1][name].dtype is torch.float32
        assert relative_error(results[1][name], parameter.grad) < 8 * ROUNDING, name


def test_alone() -> None:
    layer = build()
    assert_as_the_formula(trained(layer, dict(layer.named_parameters())))


def test_compiled() -> None:
    layer = build()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_as_the_formula(trained(compiled, dict(layer.named_parameters())))


def test_exported() -> None:
    layer = build()
    with torch.autocast("cpu", torch.bfloat16):
        exported = torch.export.export(layer, (image(),)).module()
        output = exported(image())
    _, gradients = trained(layer, dict(layer.named_parameters()))
    assert_as_the_formula((output.detach(), gradients))


def test_under_torch_func() -> None:
    layer = build()
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        output = torch.func.functional_call(layer, parameters, (x,))
        return loss_of(output), output

    with torch.autocast("cpu", torch.bfloat16):
        gradients, output = torch.func.grad(loss, has_aux=True)(parameters, image())
        each = torch.func.vmap(lambda x: layer(x[None])[0])(image())
    assert_as_the_formula((output, gradients))
    assert relative_error(each.detach().float(), output.float()) < 2 * ROUNDING


def test_distributed() -> None:
    layer = build()
    with one_process():
        assert_as_the_formula(trained(DistributedDataParallel(layer), dict(layer.named_parameters())))


def test_sharded() -> None:
    layer = build()
    with one_process():
        model = fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
        assert_as_the_formula(trained(model, dict(model.named_parameters())))
