"""The exact interpreter of integer graphs: the definition of every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qir.ir.data import unmasked
from qir.ir.errors import DataError, VerifyError
from qir.ir.fixed import Rounding
from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.types import Array, Quant, integer_of

Watch = Callable[[Value, Array], None]


def interpret(
    graph: Graph, inputs: Sequence[Array], watch: Watch | None = None
) -> tuple[Array, ...]:
    """Run an integer graph on stored integers, by each op's evaluate(); `watch` sees every result.

    Errors: DataError for inputs of another number, shape or range; VerifyError for an op without
            integer meaning.
    """
    env = dict(zip((v.name for v in graph.inputs), _checked(graph, inputs), strict=True))
    last = last_uses(graph)
    for at, op in enumerate(graph.ops):
        args = op.unpack(tuple(env[v.name] for v in op.operands))
        out = op.evaluate(*args)
        for value, array in zip(op.results, out if isinstance(out, tuple) else (out,), strict=True):
            env[value.name] = array
            if watch is not None:
                watch(value, array)
        for name in last.get(at, ()):
            env.pop(name, None)
    return tuple(env[v.name] for v in graph.outputs)


def last_uses(graph: Graph) -> Mapping[int, tuple[str, ...]]:
    """For each position in graph.ops, the values that nothing reads after it."""
    outputs = {v.name for v in graph.outputs}
    at: dict[str, int] = {}
    for i, op in enumerate(graph.ops):
        for value in (*op.operands, *op.results):
            at[value.name] = i
    uses: dict[int, list[str]] = {}
    for name, i in at.items():
        if name not in outputs:
            uses.setdefault(i, []).append(name)
    return {i: tuple(names) for i, names in uses.items()}


def quantize_inputs(graph: Graph, reals: Sequence[Array]) -> tuple[Array, ...]:
    """The border in: reals to the stored integers of the graph's inputs, ties to even; integers
    pass.
    """
    return tuple(
        (
            quantized(unmasked(x, f"input {v}"), v.type.elem, Rounding.HALF_EVEN)
            if isinstance(v.type.elem, Quant)
            else unmasked(x, f"input {v}")
        )
        for v, x in zip(graph.inputs, reals, strict=True)
    )


def dequantize_outputs(graph: Graph, stored: Sequence[Array]) -> tuple[Array, ...]:
    """The border out: stored integers of the graph's outputs to float32."""
    return tuple(
        dequantized(y, v.type.elem) if isinstance(v.type.elem, Quant) else y
        for v, y in zip(graph.outputs, stored, strict=True)
    )


def _checked(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    if len(inputs) != len(graph.inputs):
        raise DataError(
            f"graph @{graph.name}: {len(inputs)} inputs given, {len(graph.inputs)} are needed"
        )
    out = []
    for value, x in zip(graph.inputs, inputs, strict=True):
        storage = integer_of(value.type.elem)
        if storage is None:
            raise VerifyError(f"input {value}: {value.type}, an integer graph is needed")
        a = unmasked(x, f"input {value}")
        if a.shape != value.type.shape or a.dtype.kind not in "iu":
            raise DataError(
                f"input {value}: {a.dtype}{list(a.shape)} given, {value.type} is needed"
            )
        if a.size and (int(a.min()) < storage.min or int(a.max()) > storage.max):
            raise DataError(
                f"input {value}: values reach [{a.min()}, {a.max()}], {storage} is needed"
            )
        out.append(a.astype(storage.carrier))
    return out
