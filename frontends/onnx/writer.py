"""Writer of the graph under construction; each constant is written once per layout."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.operands import FLOATS, ConstantOperand, as_float, stored_int
from qir.frontends.onnx.read.budget import Budget
from qir.frontends.onnx.read.names import sanitized
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.errors import FrontendError
from qir.ir.graph import Builder
from qir.ir.op import Loc, Value
from qir.ir.types import Array, Elem, Quant, elem_of

FLOAT_BYTES = 4


class GraphWriter:
    """The builder, the name of the file, the constants written so far, and the budget."""

    def __init__(self, file: str, builder: Builder, budget: Budget) -> None:
        self.file, self.builder, self.budget = file, builder, budget
        # by identity; the arrays are kept, so that no other gets their id
        self._datas: dict[tuple[int, Quant | None], tuple[Array, Data, Elem]] = {}
        self._written: dict[tuple[str, Data, Elem], Value] = {}

    def constant(self, operand: ConstantOperand) -> Value:
        """`operand` as a value: floats as f32; stored integers of a quantization, dequantized.

        Errors: FrontendError for NaN, infinity, no elements, or a type without counterpart.
        """
        where = f"{self.file} constant {operand.name!r}"
        if not operand.array.size:
            raise FrontendError(
                f"{where}: shape {list(operand.shape)}, one element or more is needed"
            )
        data, elem = self._data(operand, where)
        key = (operand.name, data, elem)
        if key not in self._written:
            self._written[key] = self._write(operand, data, elem)
        return self._written[key]

    def stored(self, operand: ConstantOperand, quant: Quant) -> Value:
        """Integers of the model as a constant of `quant`, not dequantized."""
        loc = Loc(f"{self.file} constant {operand.name}")
        data = Data(operand.array.astype(quant.carrier))
        return self.builder.add(ops.Constant(data, quant, loc=loc), sanitized(operand.name))

    def _data(self, operand: ConstantOperand, where: str) -> tuple[Data, Elem]:
        """The elements as written; those of one array (tied weights) are one Data."""
        key = (id(operand.array), operand.quant)
        if key not in self._datas:
            subject = f"constant {operand.name!r}"
            self.budget.check_bytes(operand.array.size * FLOAT_BYTES, subject)
            stored, elem = self._stored(operand, where)
            self.budget.spend_bytes(stored.nbytes, subject)
            self._datas[key] = operand.array, Data(stored), elem
        return self._datas[key][1:]

    def _write(self, operand: ConstantOperand, data: Data, elem: Elem) -> Value:
        loc, name = Loc(f"{self.file} constant {operand.name}"), sanitized(operand.name)
        if operand.quant is None:
            return self.builder.add(ops.Constant(data, elem, loc=loc), name)
        stored = self.builder.add(ops.Constant(data, elem, loc=loc), f"{name}.stored")
        return self.builder.add(ops.Dequantize(stored, loc=loc), name)

    def _stored(self, operand: ConstantOperand, where: str) -> tuple[Array, Elem]:
        array = operand.array
        if operand.quant is not None:
            return array.astype(operand.quant.carrier), operand.quant
        if array.dtype.name in FLOATS:
            array = as_float(array)
            if faulty := int(np.count_nonzero(~np.isfinite(array))):
                raise FrontendError(
                    f"{where}: {faulty} of {array.size} elements are NaN or infinite as f32,"
                    " finite ones are needed"
                )
        elif (kind := stored_int(array)) is not None:
            return array.astype(kind.carrier), kind
        elif array.dtype.kind not in "iub":
            raise FrontendError(f"{where}: elements of type {array.dtype.name}, numbers are needed")
        elem = elem_of(array.dtype)
        return array.astype(elem.carrier), elem
