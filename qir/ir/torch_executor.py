"""Runs float and simulated graphs in torch: fast and differentiable. The only part of the language
that uses torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from qir.ir.data import unmasked
from qir.ir.errors import DataError, QirError, VerifyError
from qir.ir.graph import Graph
from qir.ir.interpret import last_uses
from qir.ir.op import Op, Value
from qir.ir.ops import Constant
from qir.ir.types import Array, integer_of

Watch = Callable[[Value, Any], None]


class FloatProgram:
    """A graph made ready to run in torch: constants become tensors once, over their own memory."""

    def __init__(self, graph: Graph) -> None:
        missing = [str(op) for op in graph.ops if not op.has_floats()]
        if missing:
            raise VerifyError(
                f"graph @{graph.name}: no meaning on floats for {', '.join(missing[:5])}"
            )
        self.graph = graph
        self._last = last_uses(graph)
        self._constants = {
            op.names[0]: in_place(op.value.array) if isinstance(op, Constant) else op.compute(torch)
            for op in graph.ops
            if not op.operands
        }

    def __call__(self, *inputs: Any, watch: Watch | None = None) -> tuple[Any, ...]:
        """Outputs, as tensors, of `inputs` (tensors or arrays); `watch` sees every value, inputs
        too.
        """
        env = self.begin(inputs, watch)
        self.advance(env, 0, len(self.graph.ops), watch)
        outputs = [(env[v.name], v.name in self._constants) for v in self.graph.outputs]
        return tuple(y.clone() if is_constant else y for y, is_constant in outputs)

    def begin(self, inputs: Sequence[Any], watch: Watch | None = None) -> dict[str, Any]:
        """The values before the first op, by name: constants and inputs."""
        env = dict(self._constants)
        for value, x in zip(self.graph.inputs, self._checked(inputs), strict=True):
            env[value.name] = x
            if watch is not None:
                watch(value, x)
        return env

    def advance(
        self, env: dict[str, Any], start: int, stop: int, watch: Watch | None = None
    ) -> None:
        """Run ops `start` to `stop` on the values in `env`, which keeps those that later ops need.
        A copy of it advances independently.
        """
        for at in range(start, stop):
            op = self.graph.ops[at]
            if op.operands:
                out = self._run(op, op.unpack(tuple(env[v.name] for v in op.operands)))
                env.update(zip(op.names, out, strict=True))
            if watch is not None:
                for value in op.results:
                    watch(value, env[value.name])
            for name in self._last.get(at, ()):
                env.pop(name, None)

    @staticmethod
    def _run(op: Any, args: list[Any]) -> tuple[Any, ...]:
        try:
            out = op.compute(torch, *args)
        except QirError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as e:
            raise VerifyError(
                f"{op}: {str(e).splitlines()[0]}, operands that fit are needed"
            ) from e
        # torch's functions differ in the last bit with the strides: one layout, the same bits
        results = out if isinstance(out, tuple) else (out,)
        return tuple(y.reshape(-1).reshape(y.shape) for y in results)

    def _checked(self, inputs: Sequence[Any]) -> Iterator[Any]:
        if len(inputs) != len(self.graph.inputs):
            raise DataError(
                f"graph @{self.graph.name}: {len(inputs)} inputs given, {len(self.graph.inputs)}"
                " are needed"
            )
        for value, x in zip(self.graph.inputs, inputs, strict=True):
            tensor = (
                x
                if isinstance(x, torch.Tensor)
                else torch.from_numpy(np.asarray(unmasked(x, f"input {value}"), order="C"))
            )
            if tuple(tensor.shape) != value.type.shape:
                raise DataError(
                    f"input {value}: shape {list(tensor.shape)} given, {list(value.type.shape)} is"
                    " needed"
                )
            is_integer = integer_of(value.type.elem) is not None
            yield (
                tensor.long()
                if is_integer
                else tensor.to(getattr(torch, str(value.type.elem.carrier)))
            )


class _Writable:
    """An array as one that may be written to, without a copy; torch warns of others."""

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.array = array  # the memory stays as long as the view


def in_place(array: Array) -> torch.Tensor:
    """A tensor over the memory of a constant: no op writes to its operands."""
    return torch.from_numpy(np.asarray(_Writable(array)))


def run_op(op: Op, operands: Sequence[Array]) -> Array:
    """The result of one float op on arrays, without gradients."""
    with torch.no_grad():
        flat = tuple(torch.from_numpy(np.array(a)) for a in operands)
        return np.asarray(op.compute(torch, *op.unpack(flat)).numpy())


def run_float(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of a float graph as arrays, without gradients."""
    with torch.no_grad():
        return tuple(np.asarray(y.detach().numpy()) for y in FloatProgram(graph)(*inputs))
