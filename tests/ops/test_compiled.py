"""Layers under torch.compile on CPUs: the operators that it calls, and all that may stand around them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from timm_lp.layers import LpConv2d

from ..covering import covering
from ..distributed import one_process
from ..layers.comparison import image, output_and_gradients, randomize, reference_values, seeded
from .shapes import FORMATS, LAST, SHAPES, WAYS, build, geometry_of, plain

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),  # torch's own accesses
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]
FORWARD, BACKWARD = torch.ops.timm_lp.masked_conv2d.default, torch.ops.timm_lp.masked_conv2d_backward.default
BACKENDS = [pytest.param("inductor", marks=pytest.mark.exhaustive), "aot_eager"]  # the first takes long


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    torch.compiler.reset()


def compiled(layer: nn.Module, backend: Any = "aot_eager", **options: Any) -> Callable[[Tensor], Tensor]:
    return torch.compile(layer, fullgraph=True, backend=backend, **options)


def arguments_of(layer: LpConv2d, x: Tensor) -> tuple[Any, ...]:
    """Return the arguments of the first operator; its shapes and the rest are those of the second too."""
    stride, padding, dilation, groups = geometry_of(layer)
    tensors = (x, layer.weight, layer.bias, layer.C, layer.log2p)
    return (*tensors, [*stride], [*padding], [*dilation], groups)


def laid_out(name: str, input_format: Any, weight_format: Any, dtype: torch.dtype) -> tuple[LpConv2d, Tensor]:
    layer, x = build(name, dtype)
    return layer.to(memory_format=weight_format), x.to(memory_format=input_format)


def by_default(*names: str) -> pytest.MarkDecorator:
    """Return the mark that parametrizes a test with the names of all shapes, of which these run by default."""
    marks = {name: [] if name in names else [pytest.mark.exhaustive] for name in SHAPES}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in SHAPES])


@by_default("map_smaller_than_kernel", "dilation_uneven", "depthwise", "groups")
def test_matches_the_reference(name: str) -> None:
    layer, x = build(name)
    run = compiled(layer)
    values = output_and_gradients(run, x, *layer.parameters())
    # The reference's mask of a single tap has no graph.
    of_formula = (
        reference_values(layer, x)
        if SHAPES[name][2] != 1
        else output_and_gradients(plain(layer), x, *layer.parameters())
    )
    for value, expected in zip(values, of_formula, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(run(x), layer(x))


@by_default("few_positions", "depthwise_15x15_stride")
def test_opcheck(name: str) -> None:
    layer, x = laid_out(name, LAST, LAST, torch.float32)
    arguments = arguments_of(layer, x.requires_grad_())
    torch.library.opcheck(FORWARD, arguments)
    tensors = [arguments[i].detach() for i in (0, 1, 3, 4)]
    grad_output = torch.ones_like(layer(x))
    torch.library.opcheck(BACKWARD, (grad_output, *tensors, *arguments[5:], [True, False, True, True]))


@covering(2, name=[*SHAPES], input_format=FORMATS, weight_format=FORMATS, way=[*WAYS])
def test_fake_results_are_laid_out_as_the_real_ones(name: str, input_format: Any, weight_format: Any, way: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        layer, x = laid_out(name, input_format, weight_format, dtype)
        arguments = arguments_of(layer, x)

        def run(arguments: tuple[Any, ...]) -> list[Tensor]:
            output = FORWARD(*arguments)
            tensors = [arguments[i] for i in (0, 1, 3, 4)]
            return [output, *BACKWARD(torch.ones_like(output), *tensors, *arguments[5:], [True] * 4)]

        with torch.no_grad(), WAYS[way]():
            real = run(arguments)
        with torch.no_grad(), FakeTensorMode() as mode:
            fake = run(tuple(mode.from_tensor(a) if isinstance(a, Tensor) else a for a in arguments))
        inputs = {a.untyped_storage().data_ptr() for a in arguments if isinstance(a, Tensor)}
        for value, expected in zip(fake, real, strict=True):
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
            for size, stride, other in zip(value.shape, value.stride(), expected.stride(), strict=True):
                assert size == 1 or stride == other
            assert expected.untyped_storage().data_ptr() not in inputs


def network(memory_format: torch.memory_format = LAST) -> nn.Module:
    """Return layers of every kind between norms, on maps that some taps do not meet."""
    layers = [
        LpConv2d(4, 8, 7, padding=3, p_init=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        LpConv2d(8, 8, 5, padding=2, groups=8, stride=2),
        LpConv2d(8, 6, 1, bias=False),
        LpConv2d(6, 4, 3, padding="same", p_init=16, sigma_init=1.0),
    ]
    return randomize(nn.Sequential(*layers)).to(memory_format=memory_format)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("autocast", [False, True])
def test_ten_steps_of_training_and_evaluation(backend: str, autocast: bool) -> None:
    outputs = []
    eager = network()
    for model in (eager, copy.deepcopy(eager)):
        run = compiled(model, backend) if outputs else model
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        losses = []
        for step in range(10):
            x = torch.randn(3, 4, 6, 5, generator=seeded(step)).contiguous(memory_format=LAST)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = run(x).float().tanh().square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.eval()
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                losses += [loss.detach(), run(x).float().tanh().square().sum()]  # with the masks of this step
            model.train()
        outputs.append(torch.stack([*losses, *(p.detach().float().abs().sum() for p in model.parameters())]))
    rounding = 0.05 if autocast else 1e-4
    torch.testing.assert_close(outputs[1], outputs[0], rtol=rounding, atol=rounding)


def graphs_of(model: nn.Module, *inputs: Tensor) -> list[torch.fx.GraphModule]:
    """Return what a backend gets to compile."""
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    run = compiled(model, keep)
    for x in inputs:
        run(x)
    return graphs


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="earlier, torch.compile may take itself for torch.export")
def test_which_layers_the_operators_compute() -> None:
    for layer, count in [
        (LpConv2d(4, 2, 3), 1),
        (LpConv2d(4, 2, (4, 3), padding="same"), 0),  # more padding on one side
        (LpConv2d(4, 2, 3, padding=1, padding_mode="reflect"), 0),
        (LpConv2d(4, 2, 3).half(), 0),
    ]:
        (graph,) = graphs_of(layer, image(dtype=layer.weight.dtype))
        assert sum(node.target is FORWARD for node in graph.graph.nodes) == count


def test_a_single_tap_needs_no_mask_in_evaluation() -> None:
    layer = LpConv2d(4, 2, 1)
    with torch.no_grad():
        (graph,) = graphs_of(layer, image().to(memory_format=LAST))
    assert not any(node.target is FORWARD for node in graph.graph.nodes)


@torch._dynamo.config.patch(recompile_limit=32)
def test_recompiles_where_a_plain_convolution_does() -> None:
    sizes = [(2, 9, 9), (3, 9, 9), (4, 9, 9), (4, 11, 13), (5, 8, 20), (2, 4, 5), (1, 9, 9), (6, 1, 1), (2, 9, 9)]
    counts = []
    for layer in (LpConv2d(4, 2, 7, padding=3), nn.Conv2d(4, 2, 7, padding=3)):
        torch.compiler.reset()
        counter = CompileCounterWithBackend("aot_eager")
        run = compiled(layer, counter)
        for images, height, width in sizes:
            x = torch.randn(images, 4, height, width, generator=seeded())
            values, expected = (output_and_gradients(f, x, *layer.parameters()) for f in (run, layer))
            for value, other in zip(values, expected, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)
            layer.eval()
            with torch.no_grad():
                run(x)
                for parameter in layer.parameters():
                    parameter.mul_(1.01)  # no new mask is a reason
            layer.train()
        counts.append(counter.frame_count)
    assert counts[0] == counts[1]


def test_no_mask_is_stale() -> None:
    layer = randomize(LpConv2d(4, 6, 5, padding=2, p_init=3))
    run, x = compiled(layer), image()
    for change in (
        lambda: layer.C.data.mul_(1.3),
        lambda: layer.log2p.detach().numpy().__iadd__(0.5),
        lambda: layer.load_state_dict({name: 1.1 * tensor for name, tensor in layer.state_dict().items()}),
    ):
        with torch.no_grad():
            before = run(x)
            change()
            assert torch.equal(run(x), layer(x))
            assert not torch.equal(run(x), before)


def test_masks_that_were_computed() -> None:
    layer, x = build("3x3")
    C = layer.C.detach().requires_grad_()

    def loss(C: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"C": C * C.cos()}, (x,)).square().sum()

    values = (torch.autograd.grad(f(C), C)[0] for f in (torch.compile(loss, backend="aot_eager"), loss))
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)


def test_autocast_of_a_backend_that_leaves_it_on() -> None:
    layer, x = build("3x3", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(layer, "eager")(x), layer(x))


def test_second_derivatives() -> None:
    layer, x = build("3x3")
    x.requires_grad_()

    def penalty(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        (gradient,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (layer.weight, layer.C))

    for value, expected in zip(penalty(compiled(layer, "eager")), penalty(layer), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match="aot_autograd does not currently support double backward"):
        penalty(compiled(layer))


def test_function_transforms() -> None:
    layer, x = build("3x3")
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))
    values = torch.compile(each, fullgraph=True, backend="aot_eager")(parameters, x)
    torch.testing.assert_close(values, each(parameters, x), rtol=1e-9, atol=1e-9)


def test_compiled_autograd() -> None:
    layer, x = build("depthwise")
    expected = output_and_gradients(layer, x, *layer.parameters())
    with torch._dynamo.config.patch(compiled_autograd=True):
        values = output_and_gradients(compiled(layer), x, *layer.parameters())
    for value, other in zip(values, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpointing_and_distributed_training(backend: str) -> None:
    model, x = network(), image(size=(6, 5))
    expected = output_and_gradients(model, x, *model.parameters())

    def recomputed(x: Tensor) -> Tensor:
        return checkpoint(model, x, use_reentrant=False)

    with one_process():
        distributed = torch.compile(DistributedDataParallel(model), backend=backend)
        for run in (torch.compile(recomputed, fullgraph=True, backend=backend), distributed):
            for value, other in zip(output_and_gradients(run, x, *model.parameters()), expected, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
def test_modes_of_the_compiler(mode: str, memory_format: torch.memory_format) -> None:
    model, x = network(memory_format), image(size=(6, 5)).contiguous(memory_format=memory_format)
    run = torch.compile(model, fullgraph=True, mode=mode)
    for value, other in zip(
        output_and_gradients(run, x, *model.parameters()),
        output_and_gradients(model, x, *model.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_raise_the_error_of_torch() -> None:
    with pytest.raises(RuntimeError, match="to have 4 channels, but got 5 channels instead"):
        compiled(LpConv2d(4, 2, 3))(image(5))


@pytest.mark.parametrize("strict", [True, False])
def test_what_is_recorded_has_plain_operators(strict: bool) -> None:
    layer, x = build("3x3", torch.float32)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            exported = torch.export.export(layer, (x,), strict=strict)
        assert not any("timm_lp" in str(node.target) for node in exported.graph.nodes)
