"""Folding a batch norm gives the bits that torch's own folding for ONNX gives."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import nn

from qir.frontends.onnx import import_onnx
from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE
from tests.passes.same_graph import assert_same_graph


def exported(net: nn.Module, example: torch.Tensor) -> bytes:
    """The ONNX file of torch's exporter that folds batch norms, by TorchScript."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (example,), file, dynamo=False, opset_version=13)
    return file.getvalue()


def trained(net: nn.Module) -> nn.Module:
    """Parameters and statistics with all their bits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in net.state_dict().items():
            if x.is_floating_point():
                x.normal_(generator=generator)
            if name.endswith("running_var"):
                x.abs_()
    return net.eval()


def canonical(graph: Graph) -> Graph:
    return Manager(check=True).run(graph, CANONICALIZE)


@pytest.mark.parametrize("bias", [True, False])
def test_both_imports_give_the_same_bits(bias: bool) -> None:
    net = trained(
        nn.Sequential(
            nn.Conv2d(3, 32, 3, bias=bias), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, groups=32, bias=bias), nn.BatchNorm2d(64, eps=1e-3),
        )
    )  # fmt: skip
    example = torch.zeros(1, 3, 8, 8)
    file = exported(net, example)
    assert b"BatchNormalization" not in file
    assert_same_graph(canonical(import_torch(net, (example,))), canonical(import_onnx(file)))


def test_a_difference_of_one_bit_is_seen() -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    example = torch.zeros(1, 3, 8, 8)
    before = canonical(import_torch(net, (example,)))
    weight = net.get_parameter("0.weight").detach()
    weight.copy_(torch.nextafter(weight, torch.tensor(torch.inf)))
    with pytest.raises(AssertionError):
        assert_same_graph(before, canonical(import_torch(net, (example,))))
