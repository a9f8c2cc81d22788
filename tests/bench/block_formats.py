"""What formats of keys and values cost: python -m tests.bench.block_formats stories260k synthetic

Keys (or with --values, values) of every attention of a float model are rounded as a cache of the
format would hold them; everything else stays float. Of each format: bits a value with its scales,
how many nats a token more than the float model, and the KL divergence in thousandths of a nat. A
name with x40 behind it is the same model with 4 rotary pairs of each head of keys 40 times as
large, and of queries as much smaller. synthetic: heads of 128 channels, the error of their scores.
smollm2 needs --folder, with the model in the form of Hugging Face and tokens.npy (S, N).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Attention
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.transform.attention_chains import Chain, chain_to, pairs_of
from tests.bench.decoders import evaluated, with_large_keys

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
STORED, PAIRS, FREE, HADAMARD = "as stored", "sorted by pairs", "sorted freely", "hadamard"
Order = Array  # of the channels of all heads, (kv_heads, D)


@dataclass(frozen=True)
class Format:
    """`bits` of a code, `block` values that share the numbers; block floating point, or codes
    between a block's least and greatest value.
    """

    bits: int
    block: int
    order: str = STORED
    is_range: bool = False

    def size(self, width: int) -> float:
        """Bits a value, with those of a block's numbers: an exponent, or a step and an offset."""
        return self.bits + (16 if self.is_range else 8) / min(self.block, width)

    def rounded(self, x: Any) -> Any:
        """Heads (..., D) in this format."""
        parts = x.reshape(*x.shape[:-1], -1, min(self.block, x.shape[-1]))
        y = ranged(parts, self.bits) if self.is_range else floating(parts, self.bits)
        return y.reshape(x.shape)

    def __str__(self) -> str:
        kind = "range" if self.is_range else "bfp"
        return f"{kind}{self.bits}, {self.block}"


def floating(x: Any, bits: int) -> Any:
    """Block floating point, as `Bfp` defines it."""
    top = x.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    unit = torch.exp2(torch.floor(torch.log2(top)) - (bits - 2))
    most = 2 ** (bits - 1)
    return torch.clamp(torch.floor(x / unit + 0.5), -most, most - 1) * unit


def ranged(x: Any, bits: int) -> Any:
    """2**bits codes from the least of a block to the greatest."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp_min(1e-30)
    return torch.floor((x - low) / step + 0.5) * step + low


def hadamard(size: int) -> Any:
    h = torch.ones(1, 1)
    while len(h) < size:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / size**0.5


def orders(graph: Graph, op: Attention, which: str) -> Order:
    """Where each channel of a head goes: by the norms of the rows of the weights, or of pairs."""
    chain = chain_to(graph, op.k)
    assert isinstance(chain, Chain)
    w = graph.producers[chain.layer.w.name].value.array[chain.start : chain.stop]  # type: ignore[attr-defined]
    norms = np.linalg.norm(w.astype(np.float64), axis=1).reshape(op.kv_heads, -1)
    if which == PAIRS:
        pairs = pairs_of(graph, op.k, norms.shape[1])
        for pair in pairs:
            norms[:, pair] = np.linalg.norm(norms[:, pair], axis=1)[:, None]
    return np.argsort(-norms, axis=1, kind="stable")


def rounder(graph: Graph, way: Format, of: str) -> Callable[[Value, Any], None]:
    """A watch that rounds the keys (k) or values (v) of every attention in place."""
    heads = {getattr(op, of).name: op for op in graph.ops if isinstance(op, Attention)}
    by = {n: orders(graph, op, way.order) for n, op in heads.items()} if "sort" in way.order else {}

    def watch(value: Value, x: Any) -> None:
        if value.name not in heads:
            return
        each = x.reshape(*x.shape[:-1], heads[value.name].kv_heads, -1)
        if way.order == HADAMARD:
            h = hadamard(each.shape[-1])
            y = way.rounded(each @ h) @ h.T
        elif value.name in by:
            at = torch.from_numpy(by[value.name]).expand(each.shape)
            y = torch.empty_like(each).scatter_(-1, at, way.rounded(each.gather(-1, at)))
        else:
            y = way.rounded(each)
        x.copy_(y.reshape(x.shape))

    return watch


def losses(logits: Any, floats: Any, ids: Any) -> tuple[float, float]:
    """Nats more than the float model's, and the KL divergence, a token."""
    f, q = (torch.log_softmax(y.double(), -1) for y in (floats, logits))
    pick = ids[:, 1:, None]
    more = f[:, :-1].gather(-1, pick) - q[:, :-1].gather(-1, pick)
    return float(more.mean()), float((f.exp() * (f - q)).sum(-1).mean())


def measured(
    graph: Graph, rows: Array, ways: Sequence[Format], of: str
) -> Iterator[tuple[Format, float, float]]:
    program = FloatProgram(graph)
    with torch.no_grad():
        floats = [program(row[None])[0] for row in rows]
        for way in ways:
            watch = rounder(graph, way, of)
            pairs = [
                losses(program(row[None], watch=watch)[0], y, torch.from_numpy(row[None]).long())
                for row, y in zip(rows, floats, strict=True)
            ]
            nats, kl = np.mean(pairs, axis=0)
            yield way, float(nats), float(kl)


def ways(width: int, blocks: Sequence[int], mantissas: Sequence[int]) -> Iterator[Format]:
    every = sorted({min(b, width) for b in blocks})
    for bits in mantissas:
        for block in every:
            kinds = (STORED, PAIRS, FREE, HADAMARD) if block < width else (STORED, HADAMARD)
            yield from (Format(bits, block, kind) for kind in kinds)
    for block in every:
        yield from (Format(4, block, kind, True) for kind in (STORED, HADAMARD))


def synthetic(blocks: Sequence[int], mantissas: Sequence[int]) -> None:
    """The table of synthetic heads, with queries of one size and balanced ones."""
    from tests.bench.synthetic_heads import WIDTH, scores

    every = [*ways(WIDTH, blocks, mantissas)]
    table = Table(title=f"synthetic heads of {WIDTH}, error of scores")
    for head in ("format", "order", "bits a value", "queries alike", "balanced"):
        table.add_column(head, justify="right")
    for (way, alike), (_, balanced) in zip(scores(every, False), scores(every, True), strict=True):
        cells = f"{way.size(WIDTH):.3f}", f"{alike:.4f}", f"{balanced:.4f}"
        table.add_row(str(way), way.order, *cells)
    console.print(table)


def model(name: str, given: argparse.Namespace) -> None:
    """The table of a model."""
    graph, rows = evaluated(name.removesuffix("x40"), given.rows, given.folder)
    if name.endswith("x40"):
        graph = with_large_keys(graph, 40.0)
    op = next(op for op in graph.ops if isinstance(op, Attention))
    width, of = op.k.type.shape[-1] // op.kv_heads, "v" if given.values else "k"
    table = Table(title=f"{name}, heads of {width}, {rows.size:,} tokens, {of}")
    for head in ("format", "order", "bits a value", "nats", "KL, mnat"):
        table.add_column(head, justify="right")
    every = [*ways(width, given.blocks, given.mantissas)]
    for way, nats, kl in measured(graph, rows, every, of):
        cells = str(way), way.order, f"{way.size(width):.3f}", f"{nats:+.4f}", f"{1e3 * kl:.2f}"
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    p = argparse.ArgumentParser(prog="python -m tests.bench.block_formats")
    p.add_argument("names", nargs="+", help="stories260k, shakespeare12, smollm2; x40; synthetic")
    p.add_argument("--values", action="store_true", help="values in place of keys")
    p.add_argument("--rows", type=int, default=8, help="of tokens to evaluate")
    p.add_argument("--blocks", type=int, nargs="+", default=[16, 32, 64, 128])
    p.add_argument("--mantissas", type=int, nargs="+", default=[4, 6, 8])
    p.add_argument("--folder", type=Path, default=Path())
    args = p.parse_args()
    for name in args.names:
        if name == "synthetic":
            synthetic(args.blocks, args.mantissas)
        else:
            model(name, args)


if __name__ == "__main__":
    main()
