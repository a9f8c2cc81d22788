"""Whole networks against torch, by every way in."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.fx.experimental.proxy_tensor import make_fx

from qir.frontends.torch import import_torch
from tests.frontends.torch.agreement import agree, inputs, mnemonics, randomize
from tests.frontends.torch.networks import NETWORKS, Basic, ResNet, conv_bn

SHAPE = (2, 3, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    torch.manual_seed(0)
    net = randomize(NETWORKS[name]())
    graph = agree(net, inputs(SHAPE))
    assert all(op.loc.source.startswith("torch ") for op in graph.ops)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return randomize(ResNet(Basic))


def test_exported_program(resnet: nn.Module) -> None:
    xs = inputs(SHAPE)
    program = torch.export.export(resnet, xs)
    assert agree(resnet, xs, imported=program) == import_torch(program)  # its own inputs suffice
    assert agree(resnet, xs, imported=program.run_decompositions()).inputs[0].type.shape == SHAPE


def test_a_free_batch_is_fixed_to_the_example(resnet: nn.Module) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(resnet, inputs(SHAPE), dynamic_shapes={"x": {0: batch}})
    xs = inputs((5, 3, 32, 32))
    assert agree(resnet, xs, imported=program).inputs[0].type.shape == (5, 3, 32, 32)


def test_a_free_batch_in_views() -> None:
    """Sizes computed from a free size are computed at import."""

    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, c, h, w = x.shape
            y = x.reshape(n * c, h * w).reshape(n, c // 2, 2 * h, w)
            return y[: n - 1] + torch.ones(n - 1, 1, 1, 1)

    batch = torch.export.Dim("batch", min=3, max=64)
    program = torch.export.export(Views(), inputs((4, 4, 3, 3)), dynamic_shapes={"x": {0: batch}})
    agree(Views(), inputs((6, 4, 3, 3)), imported=program)


def test_traced_graph_module(resnet: nn.Module) -> None:
    traced = symbolic_trace(resnet)
    assert any(node.op == "call_module" for node in traced.graph.nodes)
    agree(resnet, inputs(SHAPE), imported=traced)


def test_aten_graph_module(resnet: nn.Module) -> None:
    """A graph of ATen operators imports as it is: it needs no export."""
    net = nn.Sequential(conv_bn(3, 4), nn.MaxPool2d(2)).eval()
    xs = inputs((1, 3, 8, 8))
    aten = torch.export.export(net, xs).run_decompositions({}).module()
    agree(net, xs, imported=aten)
    with torch.no_grad():
        core = make_fx(net)(*xs)
    agree(net, xs, imported=core)


def test_the_module_stays_as_it_was() -> None:
    net = nn.Sequential(conv_bn(3, 4), nn.Dropout(0.5)).train()
    net[0][1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    graph = import_torch(net, inputs((2, 3, 8, 8)))
    modes = [module.training for module in net.modules()]
    assert modes == [True, True, True, False, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert "batch_norm" in mnemonics(graph)
    agree(net.eval(), inputs((2, 3, 8, 8)), imported=net)


def test_names_and_places() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = conv_bn(3, 4)

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.layer1(image)
            return {"features": y, "logits": y.mean((2, 3))}  # the line of reduce_mean

    graph = import_torch(Net().eval(), inputs((1, 3, 8, 8)))
    assert graph.name == "Net"
    assert [v.name for v in graph.inputs] == ["image"]
    assert graph.output_names == ("features", "logits")
    places = {op.mnemonic: op.loc.source for op in graph.ops}
    assert (
        places["conv"].startswith("torch layer1.0 networks.py:")
        or "layer1.0 test_" in places["conv"]
    )
    assert places["reduce_mean"].split(":")[0] == "torch mean test_networks.py"
    weights = graph.producers["layer1.0.weight"]
    assert weights.loc.source == "torch layer1.0.weight"


def test_output_names_of_a_tuple_and_of_one() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + y, x

    graph = agree(Two(), inputs((2, 3), (2, 3)))
    assert graph.output_names == ("output_0", "output_1")
    assert import_torch(nn.ReLU(), inputs((2, 3))).output_names == ("output",)


def test_one_tensor_and_arrays_as_example_inputs() -> None:
    (x,) = inputs((2, 3))
    graph = import_torch(nn.ReLU(), (x,))
    for given in (x, x.numpy(), [x.numpy()[::-1]]):
        assert import_torch(nn.ReLU(), given) == graph


def test_names_that_the_text_form_does_not_have() -> None:
    """Names of parameters may hold any character; values of a graph may not."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({"a b/c": nn.Linear(3, 2)})

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y of x": self.parts["a b/c"](x)}

    graph = agree(Net(), inputs((2, 3)))
    assert "parts.a_b_c.weight" in graph.producers
    assert graph.producers["parts.a_b_c.weight"].loc.source == "torch parts.a b/c.weight"
    assert graph.output_names == ("y of x",)


def test_a_constant_output() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("anchors", torch.arange(4.0))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2, self.anchors * 2

    agree(Half(), inputs((2, 3)))
