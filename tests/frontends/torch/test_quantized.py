"""Quantized torch programs keep their integers, scales and zero points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
from torch import nn

from qir.frontends.torch import import_torch
from qir.ir.errors import FrontendError
from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.ops import Constant, Dequantize, Quantize
from qir.ir.types import I4, I8, U8, Int, Quant
from tests.frontends.torch.agreement import Function, agree, checked, inputs, mnemonics

Q = torch.ops.quantized_decomposed
XS = inputs((2, 4, 6, 5))
BYTE = (0, 255, torch.uint8)
SIGNED = (-128, 127, torch.int8)


def pair(x: torch.Tensor, scale: float, zero: int, low: int, high: int, dtype: Any) -> torch.Tensor:
    stored = Q.quantize_per_tensor(x, scale, zero, low, high, dtype)
    y: torch.Tensor = Q.dequantize_per_tensor(stored, scale, zero, low, high, dtype)
    return y


def weights_of(graph: Graph) -> list[Constant]:
    return [op for op in graph.ops if isinstance(op, Constant) and isinstance(op.elem, Quant)]


class Converted(nn.Module):
    """A convolution as PT2E converts it: pairs around it, integer weights by output channel."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        shape = (6, 4 // groups, 3, 2)
        self.register_buffer("weight", torch.randint(-127, 128, shape, dtype=torch.int8))
        self.register_buffer("scales", torch.rand(6) / 100 + 0.01)
        self.register_buffer("zeros", torch.zeros(6, dtype=torch.int64))
        self.groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = pair(x, 0.05, 100, *BYTE)
        w = Q.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        y = torch.relu(nn.functional.conv2d(x, w, None, 2, 1, 1, self.groups))
        return pair(y, 0.1, 0, *BYTE)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups: int) -> None:
    net = Converted(groups)
    graph = agree(net, XS, tolerance=1e-6)
    (weight,) = weights_of(graph)
    np.testing.assert_array_equal(weight.value.array, net.weight.permute(0, 2, 3, 1).numpy())
    assert weight.names == ("weight",) and weight.loc.source == "torch weight"
    assert isinstance(weight.elem, Quant)
    assert (weight.elem.storage, weight.elem.axis) == (I8, 0)
    np.testing.assert_array_equal(weight.elem.scale.array, net.scales.double().numpy())
    first = next(op for op in graph.ops if isinstance(op, Quantize))
    assert first.to == Quant.per_tensor(U8, 0.05, 100) and first.rounding is Rounding.HALF_EVEN
    assert mnemonics(graph) == (
        [
            "quantize",
            "dequantize",
            "transpose",
            "dequantize",
            "conv",
            "transpose",
            "relu",
            "quantize",
            "dequantize",
        ]
    )


def test_linear_by_transposed_weights() -> None:
    """addmm reads the weight through a transpose: the integers are turned, the axis follows."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randint(-8, 8, (7, 5), dtype=torch.int8))
            self.register_buffer("scales", torch.rand(7) + 0.1)
            self.bias = nn.Parameter(torch.rand(7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = Q.dequantize_per_channel(self.weight, self.scales, None, 0, -8, 7, torch.int8)
            return torch.addmm(self.bias, pair(x, 0.1, 3, *SIGNED), w.t())

    net = Net()
    graph = agree(net, inputs((3, 5)))
    (weight,) = weights_of(graph)
    assert weight.elem.storage == I4 and weight.elem.axis == 0  # type: ignore[union-attr]
    np.testing.assert_array_equal(weight.value.array, net.weight.numpy())


def test_transposed_convolution() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randint(-127, 128, (4, 6, 2, 2), dtype=torch.int8))
            self.register_buffer("scales", torch.rand(6) / 100)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = Q.dequantize_per_channel(self.weight, self.scales, None, 1, -128, 127, torch.int8)
            return nn.functional.conv_transpose2d(pair(x, 0.05, 0, *SIGNED), w, None, 2)

    (weight,) = weights_of(agree(Net(), XS))
    assert weight.elem.axis == 0  # type: ignore[union-attr]


def test_weights_quantized_in_the_program_become_integers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = pair(self.conv.weight, 0.01, 0, -127, 127, torch.int8)
            return nn.functional.conv2d(x, w, self.conv.bias)

    graph = agree(Net(), XS)
    (weight,) = weights_of(graph)
    assert weight.elem == Quant.per_tensor(I8, 0.01, 0)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "zero", "storage", "clips"),
    [
        (0, 255, torch.uint8, 7, U8, False),
        (-127, 127, torch.int8, 0, I8, True),
        (0, 127, torch.uint8, 60, Int(7, False), False),
        (-8, 7, torch.int8, 1, I4, False),
        (-32768, 32767, torch.int16, 0, Int(16, True), False),
    ],
)
def test_ranges(low: int, high: int, dtype: Any, zero: int, storage: Int, clips: bool) -> None:
    """A range narrower than its storage is kept by a clip in front."""
    net = Function(lambda x: pair(x, 0.02, zero, low, high, dtype))
    graph = agree(net, inputs((3, 100)), tolerance=1e-6)
    assert ("clip" in mnemonics(graph)) is clips
    (op,) = [op for op in graph.ops if isinstance(op, Quantize)]
    assert op.to.storage == storage


def test_pools_and_moves_between_a_pair_work_on_integers() -> None:
    def net(x: torch.Tensor) -> torch.Tensor:
        stored = Q.quantize_per_tensor(x, 0.1, 10, *BYTE)
        moved = stored.permute(0, 1, 3, 2).reshape(2, -1)[:, 3:]
        y: torch.Tensor = Q.dequantize_per_tensor(moved, 0.1, 10, *BYTE)
        return y

    graph = agree(Function(net), XS, tolerance=1e-6)
    assert mnemonics(graph) == ["quantize", "transpose", "reshape", "slice", "dequantize"]


def test_fake_quantization() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 3, 3)
            self.register_buffer("scales", torch.rand(3) / 50 + 0.001)
            self.register_buffer("zeros", torch.zeros(3, dtype=torch.int32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.fake_quantize_per_tensor_affine(x, 0.05, 128, 0, 255)
            w = torch.fake_quantize_per_channel_affine(
                self.conv.weight, self.scales, self.zeros, 0, -128, 127
            )
            y = nn.functional.conv2d(x, w, self.conv.bias)
            return torch.fake_quantize_per_tensor_affine(
                y, torch.tensor(0.1), torch.tensor(3, dtype=torch.int32), -128, 127
            )

    graph = agree(Net(), XS, tolerance=1e-5)
    (weight,) = weights_of(graph)
    assert weight.elem.storage == I8  # type: ignore[union-attr]
    assert sum(isinstance(op, Dequantize) for op in graph.ops) == 3


def test_torch_own_conversion() -> None:
    """A network that torch's quantizer converted to its reference form."""
    fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
    ao = pytest.importorskip("torch.ao.quantization")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)).eval()
    prepared = fx.prepare_fx(net, ao.get_default_qconfig_mapping("x86"), XS)
    prepared(*XS)
    converted = fx._convert_to_reference_decomposed_fx(prepared)
    graph = agree(converted, XS, tolerance=1e-4)
    assert len(weights_of(graph)) == 2
    assert all(w.elem.axis == 0 for w in weights_of(graph))  # type: ignore[union-attr]


def refuse(net: Callable[..., Any], match: str) -> None:
    with pytest.raises(FrontendError, match=match):
        checked(import_torch(Function(net), XS))


def test_refusals() -> None:
    refuse(lambda x: pair(x, 0.0, 0, *BYTE), r"scales 0.?, finite scales over 0 are needed")
    refuse(lambda x: pair(x, float("nan"), 0, *BYTE), "finite scales over 0 are needed")
    refuse(
        lambda x: Q.dequantize_per_tensor(Q.quantize_per_tensor(x, 0.1, 0, *BYTE), 0.2, 0, *BYTE),
        "of a tensor of q<u8, 0.1:0>, the type it was quantized to is needed",
    )
    refuse(
        lambda x: Q.quantize_per_channel(
            x, torch.ones(4), torch.zeros(4), 1, -127, 127, torch.int8
        ).float(),
        "activations in -127 to 127 per channel, all of i8, or one scale, is needed",
    )
    refuse(
        lambda x: Q.quantize_per_tensor.tensor(x, x.sum(), torch.tensor(0), *BYTE).float(),
        "the scale depends on the inputs, a constant is needed",
    )
    refuse(lambda x: pair(x, 1e-9, 0, -(2**40), 2**40, torch.int32), "stored integers .* one of i2")
