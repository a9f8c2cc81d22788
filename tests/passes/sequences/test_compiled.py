"""A decoder through compile: kernels against the interpreter, few bits, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import qir
from qir.ir.errors import DataError, PassError
from qir.ir.interpret import dequantize_outputs, interpret
from qir.ir.ops import Embed, Linear, ScaleGroups
from qir.ir.torch_executor import run_float
from tests.float_decoders import float_graph, random_decoder

TOKENS = np.random.default_rng(5).integers(0, 40, (32, 6)).astype(np.int32)
GRAPH = float_graph(random_decoder(layers=1), 1, 6)


def compiled(**options: Any) -> qir.Net:
    return qir.compile(GRAPH, calibration=[TOKENS], executor=ThreadPoolExecutor(1), **options)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 28.0),
        ({"bits": "w4g32a8", "rounding": "gptq"}, 14.0),
        ({"bits": qir.MixedPrecision(size=0.5)}, 14.0),
        ({"bits": "bfp6"}, 22.0),
        ({"bits": "w8a8b16"}, 28.0),
        ({"bits": "w4a4b16"}, 4.0),
    ],
    ids=["w8", "groups", "mixed", "bfp6", "blocks", "few"],
)
def test_a_decoder(options: dict[str, Any], least: float) -> None:
    net = compiled(**options)
    graph = net.stages["integer"]
    found = np.concatenate([np.asarray(net(row[None])) for row in TOKENS[:4]])
    exact = [dequantize_outputs(graph, interpret(graph, [row[None]]))[0] for row in TOKENS[:4]]
    assert np.array_equal(found, np.concatenate(exact))
    want = np.concatenate([run_float(GRAPH, [row[None]])[0] for row in TOKENS[:4]])
    assert 10 * np.log10((want**2).sum() / ((want - found) ** 2).sum()) > least
    (table,) = (op.table for op in graph.ops if isinstance(op, Embed))
    head = [op for op in graph.ops if isinstance(op, Linear)][-1]
    assert head.w == table and table.type.quant.storage.bits == 8
    grouped = any(isinstance(op, ScaleGroups) for op in graph.ops)
    assert grouped == (options.get("bits") in ("w4g32a8", "bfp6"))


def test_refusals() -> None:
    with pytest.raises(PassError, match="of w8a4, layers without rows: 8 bits and no blocks are"):
        compiled(bits=(4, 4), scales="static")
    with pytest.raises(DataError, match="scales: 'rows' given, one of auto, token, static is"):
        compiled(scales="rows")
