"""An input that several quantizes read: each gets its own range and steps, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.errors import LowerError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.ops import Dequantize, Quantize
from qir.ir.types import F32, I8, U8, Array, Int, Quant, Tensor
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER

X = np.linspace(-14, 14, 1001, dtype=np.float32)[None]


def read_by(*kinds: Quant, rounding: Rounding = Rounding.HALF_EVEN) -> Graph:
    b = Builder("border", "simulated")
    x = b.input("x", Tensor(X.shape, F32))
    return b.finish([b.add(Dequantize(b.add(Quantize(x, kind, rounding)))) for kind in kinds])


def outputs(graph: Graph) -> tuple[Graph, tuple[Array, ...]]:
    integer = Manager().run(graph, TO_INTEGER)
    return integer, dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [X])))


def of(storage: Int, scale: float, zero: int = 0) -> Quant:
    return Quant.per_tensor(storage, scale, zero)


@pytest.mark.parametrize(
    ("kinds", "storage"),
    [
        ((of(I8, 0.01), of(I8, 0.1)), "i16"),
        ((of(I8, 0.1), of(I8, 0.01)), "i16"),
        ((of(I8, 0.1), of(I8, 0.09)), "i8"),
        ((of(U8, 0.1, 128), of(I8, 0.1)), "u8"),
        ((of(U8, 0.1, 0), of(I8, 0.07)), "i16"),
        ((of(I8, 0.02), of(U8, 0.05, 200), of(I8, 0.1, 100)), "i16"),
    ],
)
def test_each_reader_gets_its_range_within_its_steps(
    kinds: tuple[Quant, ...], storage: str
) -> None:
    integer, results = outputs(read_by(*kinds))
    quant = integer.inputs[0].type.quant
    assert str(quant.storage) == storage
    for kind, y in zip(kinds, results, strict=True):
        scale, zero = float(kind.scale.array), int(kind.zero_point.array)
        ends = [(end - zero) * scale for end in (kind.storage.min, kind.storage.max)]
        error = np.abs(y - X.clip(*ends)).max()
        assert error <= (scale + (quant != kind) * float(quant.scale.array)) / 2 * 1.001


def test_readers_that_16_bits_do_not_serve_are_refused_by_name() -> None:
    kinds = of(I8, 1e-5), of(I8, 1.0)
    with pytest.raises(LowerError, match=r"input %x: quantizes to q<i8, 1e-05:0>, q<i8, 1.0:0>"
                       r" read it, which take 26 bits, at most 16 are supported"):  # fmt: skip
        outputs(read_by(*kinds))


def test_an_input_that_is_rounded_down_is_refused() -> None:
    with pytest.raises(LowerError, match="input %x: it is rounded down, inputs are rounded half"):
        outputs(read_by(of(I8, 0.1), rounding=Rounding.FLOOR))
