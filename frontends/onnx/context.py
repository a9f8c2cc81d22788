"""The node being imported: its attributes, operands, and the ops emitted for it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, NodeProto, numpy_helper

from qir.frontends.onnx.operands import ConstantOperand, Operand, as_float, shape_of
from qir.frontends.onnx.read.budget import MAX_ELEMENTS
from qir.frontends.onnx.read.names import sanitized
from qir.frontends.onnx.writer import GraphWriter
from qir.ir import ops
from qir.ir.errors import FrontendError, VerifyError, printable
from qir.ir.op import Loc, Op, Value
from qir.ir.types import Array

MAX_TAPS = 1 << 22  # of one index or matrix made at import: a resized or reversed axis
MAX_LIST = 1 << 14  # integers of a shape, axes, pads, parts


class ImportContext:
    """The interface of converters: `ctx.real(0)`, `ctx.integer("axis", 1)`, `ctx.result(Relu(x))`.

    Every fault is raised by `refuse`, and the importer lists it under the node's name.
    """

    def __init__(
        self,
        node: NodeProto,
        operands: Sequence[Operand | None],
        opset: int,
        writer: GraphWriter,
        feeds_softmax: bool = False,
    ) -> None:
        self.node, self.opset, self.writer = node, opset, writer
        self.operands = tuple(operands)
        self.feeds_softmax = feeds_softmax  # whether all that reads the first output is a Softmax
        self.outputs = tuple(node.output)
        self._attributes = {a.name: a for a in node.attribute}
        name = node.name or next(filter(None, self.outputs), "")
        self.loc = Loc(printable(f"{writer.file} node {name}"))

    def before(self, suffix: str) -> ImportContext:
        """The same node, whose results are a step on the way to its own."""
        inner = copy(self)
        inner.outputs = tuple(f"{name}.{suffix}" if name else "" for name in self.outputs)
        return inner

    def refuse(self, problem: str, requirement: str, hint: str | None = None) -> NoReturn:
        raise FrontendError(f"{problem}, {requirement}", hint)

    # -- attributes

    def integer(self, name: str, default: int | None = None) -> int:
        attribute = self._attribute(name, AttributeProto.INT, "an integer", default)
        return default if attribute is None else int(attribute.i)  # type: ignore[return-value]

    def number(self, name: str, default: float | None = None) -> float:
        attribute = self._attribute(name, AttributeProto.FLOAT, "a real", default)
        x = default if attribute is None else float(attribute.f)
        if x is not None and np.isnan(x):
            self.refuse(f"attribute {name} is NaN", "a number is needed")
        return x  # type: ignore[return-value]

    def text(self, name: str, default: str | None = None) -> str:
        attribute = self._attribute(name, AttributeProto.STRING, "a text", default)
        return default if attribute is None else attribute.s.decode("utf-8", "replace")  # type: ignore[return-value]

    def integers(self, name: str) -> tuple[int, ...] | None:
        """The integers of an attribute, None where it is absent."""
        attribute = self._attribute(name, AttributeProto.INTS, "integers", ())
        if attribute is not None and len(attribute.ints) > MAX_LIST:
            self.refuse(
                f"attribute {name} of {len(attribute.ints)} integers",
                f"at most {MAX_LIST} are needed",
            )
        return None if attribute is None else tuple(int(i) for i in attribute.ints)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        attribute = self._attribute(name, AttributeProto.FLOATS, "reals", ())
        return None if attribute is None else tuple(float(f) for f in attribute.floats)

    def has_attribute(self, name: str) -> bool:
        return name in self._attributes

    def tensor(self, name: str) -> Array:
        attribute = self._attribute(name, AttributeProto.TENSOR, "a tensor", None)
        return np.asarray(numpy_helper.to_array(attribute.t))

    def _attribute(self, name: str, kind: int, expected: str, default: object) -> Any:
        attribute = self._attributes.get(name)
        if attribute is None:
            if default is None:
                self.refuse(f"attribute {name} is absent", f"{expected} is needed")
            return None
        if attribute.type != kind:
            kind_name = AttributeProto.AttributeType.Name(attribute.type)
            self.refuse(f"attribute {name} is of type {kind_name}", f"{expected} is needed")
        return attribute

    # -- operands

    def has(self, index: int) -> bool:
        return index < len(self.operands) and self.operands[index] is not None

    def operand(self, index: int) -> Operand:
        operand = self.operands[index] if index < len(self.operands) else None
        if operand is None:
            self.refuse(f"input {index} is absent", f"{index + 1} inputs are needed")
        return operand

    def value(self, index: int) -> Value:
        """Operand `index` as a value of the graph, float or quantized."""
        return self.valued(self.operand(index))

    def real(self, index: int) -> Value:
        """Operand `index` as a float value of the graph."""
        return self.valued_real(self.operand(index))

    def parameter(self, index: int) -> Value:
        """Operand `index` as a float value; a quantized constant as the reals it stands for."""
        operand = self.operand(index)
        if isinstance(operand, ConstantOperand):
            operand = operand.dequantized()
        return self.valued_real(operand)

    def array(self, index: int, role: str) -> Array | None:
        """Operand `index` as a constant array (of reals where it is quantized), None where it is
        absent.
        """
        if not self.has(index):
            return None
        operand = self.operand(index)
        if isinstance(operand, Value):
            self.refuse(
                f"{role} (input {index}) is computed at run time",
                "a constant is needed",
                "give all dimensions of the inputs (batch, shapes), so that it can be folded",
            )
        return operand.dequantized().array

    def integer_list(self, index: int, role: str) -> tuple[int, ...] | None:
        """Operand `index` as constant integers, in order, None where it is absent."""
        integers = self.array(index, role)
        if integers is not None and integers.dtype.kind not in "iu":
            self.refuse(f"{role} (input {index}) is {integers.dtype}", "integers are needed")
        if integers is not None and integers.size > MAX_LIST:
            self.refuse(
                f"{role} (input {index}) has {integers.size} integers",
                f"at most {MAX_LIST} are needed",
            )
        return None if integers is None else tuple(int(i) for i in integers.reshape(-1))

    def scalar(self, index: int, role: str) -> float | None:
        """Operand `index` as one constant number, None where it is absent."""
        number = self.array(index, role)
        if number is None:
            return None
        if number.size != 1:
            self.refuse(f"{role} (input {index}) has {number.size} elements", "one is needed")
        return float_of(number)

    # -- writing ops

    def emit(self, op: Op, suffix: str | None = None) -> Value:
        """Add an op with one result, on the way to the node's own results."""
        stem = next(filter(None, self.outputs), self.node.op_type)
        return self._add(op, f"{stem}.{suffix or op.mnemonic}")

    def result(self, op: Op, index: int = 0) -> Value:
        """Add the op whose result is output `index` of the node, under the model's name of it."""
        return self._add(op, self.outputs[index] if index < len(self.outputs) else op.mnemonic)

    def _add(self, op: Op, name: str) -> Value:
        located = replace(op, loc=self.loc)
        try:
            value = self.writer.builder.add(located, sanitized(name))
        except VerifyError as e:  # which node it is, the importer says already
            rule = e.text.removeprefix(f"{located}: ")
            raise FrontendError(f"{op.mnemonic}: {rule}", e.hint) from e
        if not 0 < value.type.size <= MAX_ELEMENTS:
            self.refuse(
                f"{op.mnemonic} gives shape {list(value.type.shape)}",
                f"1 to {MAX_ELEMENTS} elements are needed",
            )
        return value

    def valued(self, operand: Operand) -> Value:
        """A constant written into the graph; a value as it is."""
        return operand if isinstance(operand, Value) else self.writer.constant(operand)

    def valued_real(self, operand: Operand) -> Value:
        """A float value; stored integers are refused, a constant's integers become floats."""
        if isinstance(operand, ConstantOperand) and not operand.is_float:
            operand = ConstantOperand(as_float(operand.array), operand.name)
        value = self.valued(operand)
        if not value.type.is_float:
            self.refuse(
                f"%{value.name} holds {value.type.elem}",
                "floats are needed",
                "put a DequantizeLinear (or a Cast of uint8 inputs) before it",
            )
        return value

    def constant(self, array: npt.ArrayLike, suffix: str) -> Value:
        """A float constant of the node's own."""
        stem = next(filter(None, self.outputs), self.node.op_type)
        return self.writer.constant(
            ConstantOperand(as_float(np.asarray(array)), f"{stem}.{suffix}")
        )

    # -- moving operands: constants now, values by an op

    def transposed(self, operand: Operand, perm: Sequence[int]) -> Operand:
        if tuple(perm) == tuple(range(len(perm))):
            return operand
        if isinstance(operand, ConstantOperand):
            return operand.transposed(perm)
        return self.emit(ops.Transpose(operand, tuple(perm)))

    def reshaped(self, operand: Operand, shape: Sequence[int]) -> Operand:
        if tuple(shape) == shape_of(operand):
            return operand
        if isinstance(operand, ConstantOperand):
            constant = operand.reshaped(shape)
            if constant is not None:
                return constant
        return self.emit(ops.Reshape(self.valued(operand), tuple(shape)))

    def axis(self, axis: int, rank: int) -> int:
        """`axis`, counted from the end when negative."""
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} of rank {rank}", "an axis of the operand is needed")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        result = tuple(self.axis(a, rank) for a in axes)
        if len(set(result)) != len(result):
            self.refuse(f"axes {list(axes)} of rank {rank}", "each axis once is needed")
        return result


def float_of(array: Array) -> float:
    return float(np.asarray(array).reshape(-1)[0])
