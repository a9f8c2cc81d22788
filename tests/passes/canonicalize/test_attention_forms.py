"""Attention as torch's own modules and other libraries write it: one attention of rows."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from qir.frontends.torch import import_torch
from qir.ir.graph import Graph
from qir.ir.ops import Rope
from qir.ir.torch_executor import run_float
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import CANONICALIZE

B, N, HEADS, SIZE = 2, 6, 4, 8
WIDTH = HEADS * SIZE


def canonical(module: nn.Module, *xs: Tensor) -> Graph:
    """The canonical graph, after its outputs were compared with the module's."""
    module.eval()
    graph = Manager().run(import_torch(module, xs), CANONICALIZE)
    with torch.no_grad():
        expected = module(*xs)
    (found,) = run_float(graph, [x.numpy() for x in xs])
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    return graph


def counts(graph: Graph) -> Counter[str]:
    return Counter(op.mnemonic for op in graph.ops if op.mnemonic != "constant")


class Packed(nn.Module):
    """One projection to q, k and v, split by parts first (timm) or by heads first (BLOOM)."""

    def __init__(self, by_heads: bool) -> None:
        super().__init__()
        self.project, self.by_heads = nn.Linear(WIDTH, 3 * WIDTH), by_heads

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(x)
        if self.by_heads:
            q, k, v = y.reshape(B, N, HEADS, 3, SIZE).permute(3, 0, 2, 1, 4).unbind(0)
        else:
            q, k, v = y.reshape(B, N, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * SIZE**-0.5) @ k.transpose(-2, -1)).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(B, N, WIDTH)


@pytest.mark.parametrize(("by_heads", "move"), [(False, "slice"), (True, "gather")])
def test_one_projection(by_heads: bool, move: str) -> None:
    graph = canonical(Packed(by_heads), torch.randn(B, N, WIDTH))
    assert counts(graph) == {"linear": 1, move: 3, "attention": 1}


class Turned(nn.Module):
    """Rotations as products of complex numbers, and groups of heads, as in Meta's LLaMA."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        angles = torch.outer(torch.arange(9), 1e4 ** -(torch.arange(0, SIZE, 2) / SIZE))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def turned(self, x: Tensor) -> Tensor:
        z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(z * self.turns[:N].view(1, N, 1, -1)).flatten(3).type_as(x)

    def forward(self, x: Tensor) -> Tensor:
        q = self.turned(self.q(x).view(B, N, HEADS, SIZE))
        k, v = self.kv(x).view(B, N, HEADS, SIZE).split(HEADS // 2, 2)
        k, v = (
            y[:, :, :, None, :].expand(-1, -1, -1, 2, -1).reshape(B, N, HEADS, SIZE)
            for y in (self.turned(k), v)
        )
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        scores = q @ k.transpose(2, 3) / SIZE**0.5
        hidden = torch.full((N, N), -torch.inf).triu(1)
        return ((scores + hidden).softmax(-1) @ v).transpose(1, 2).reshape(B, N, WIDTH)


def test_rotations_by_complex_numbers() -> None:
    graph = canonical(Turned(), torch.randn(B, N, WIDTH))
    assert counts(graph) == {"linear": 2, "slice": 2, "rope": 2, "attention": 1}
    assert all(op.interleaved for op in graph.ops if isinstance(op, Rope))


class Summed(nn.Module):
    """Products by einsum, heads behind tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(B, N, HEADS, SIZE) for f in self.all)
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * SIZE**-0.5
        return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).reshape(B, N, WIDTH)


def test_einsum() -> None:
    graph = canonical(Summed(), torch.randn(B, N, WIDTH))
    assert counts(graph) == {"linear": 3, "attention": 1}


@pytest.mark.parametrize("batch_first", [True, False])
def test_encoder_of_torch(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 48, batch_first=batch_first)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    values = counts(canonical(net, torch.randn(B, N, WIDTH)))
    assert values["transpose"] == (0 if batch_first else 2)  # at the border
    del values["transpose"]
    assert values == {
        "linear": 8, "slice": 6, "attention": 2, "add": 4, "layer_norm": 4, "relu": 2,
    }  # fmt: skip


def test_decoder_of_torch() -> None:
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 48, batch_first=True)
    net = nn.TransformerDecoder(layer, 2)
    values = counts(canonical(net, torch.randn(B, N, WIDTH), torch.randn(B, N - 1, WIDTH)))
    assert values["attention"] == 4
    assert not {"transpose", "reshape", "softmax", "matmul"} & set(values)


class Tilted(nn.Module):
    """A bias that grows with the distance, by head, under a causal mask (ALiBi)."""

    def __init__(self) -> None:
        super().__init__()
        distance = torch.arange(N) - torch.arange(N)[:, None]
        slopes = 2.0 ** -torch.arange(1, HEADS + 1)
        hidden = torch.full((N, N), -torch.inf).triu(1)
        self.register_buffer("bias", slopes[:, None, None] * distance + hidden)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q = self.project(x).view(B, N, HEADS, SIZE).transpose(1, 2)
        weights = (q @ q.transpose(2, 3) / SIZE**0.5 + self.bias).softmax(-1)
        return (weights @ q).transpose(1, 2).reshape(B, N, WIDTH)


def test_a_bias_by_distance_is_causal_too() -> None:
    graph = canonical(Tilted(), torch.randn(B, N, WIDTH))
    assert counts(graph) == {"linear": 1, "attention": 1}
    (op,) = (op for op in graph.ops if op.mnemonic == "attention")
    assert "causal = true" in str(graph)
    assert op.operands[3].type.shape == (1, HEADS, 1, N)  # of keys alone
