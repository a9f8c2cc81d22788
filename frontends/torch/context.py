"""The node being imported: its operands, and the ops emitted for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from qir.frontends.torch.table import Unsupported
from qir.ir.graph import Builder
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Constant, Dequantize, Reshape, Transpose
from qir.ir.ops.shape import Move
from qir.ir.select import as_floats, is_mask
from qir.ir.types import F32, I64, Quant


class Labels:
    """Which tensors are the model's parameters and buffers, or reshaped ones of them."""

    def __init__(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        # by identity; the tensors are kept, so that no other gets their id
        self._known = {id(tensor): (name, tensor) for name, tensor in tensors}

    def of(self, tensor: torch.Tensor) -> str | None:
        return self._known.get(id(tensor), (None, tensor))[0]

    def derive(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """`tensor`, called as the parameter or buffer that `source` is."""
        if (name := self.of(source)) is not None:
            self._known[id(tensor)] = name, tensor
        return tensor


@dataclass(frozen=True)
class MissingResult:
    """A result that no op gives (the indices of a max pool); an error only where it is read."""

    fault: str
    requirement: str


@dataclass(frozen=True)
class QuantizedConstant:
    """A constant of quantized weights: integers, and the reals they stand for."""

    integers: torch.Tensor
    quant: Quant
    name: str | None  # the buffer's, when the integers are one

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.integers.shape)

    def permuted(self, perm: Sequence[int]) -> QuantizedConstant:
        axis = self.quant.axis
        new_axis = None if axis is None else list(perm).index(axis)
        return QuantizedConstant(
            self.integers.permute(*perm), replace(self.quant, axis=new_axis), self.name
        )


@dataclass(frozen=True)
class Complex:
    """A complex tensor of the run."""

    real: Value
    imag: Value


Operand = (
    Value | torch.Tensor | QuantizedConstant | MissingResult | Complex
)  # what a torch tensor is at import
Number = int | float | bool


class ImportContext:
    """One node of the torch graph: rules add ops through it, which sets names and origins."""

    def __init__(
        self,
        builder: Builder,
        name: str,
        loc: Loc,
        labels: Labels,
        cache: dict[Any, Value],
        feeds_softmax: bool = False,
        booleans: frozenset[str] = frozenset(),
    ) -> None:
        self.builder, self.name, self.loc = builder, name, loc
        self.feeds_softmax = feeds_softmax  # whether all that reads the node is a softmax
        self._booleans = booleans  # names of operands that are boolean in torch
        self._labels = labels
        self._cache = cache  # the constants that stand in the graph already

    def add(self, op: Op) -> Value:
        """Append `op`, named after the node; a move after node and mnemonic."""
        name = f"{self.name}.{op.mnemonic}" if isinstance(op, Move) else self.name
        return self.builder.add(replace(op, loc=self.loc), name)

    # -- operands

    def value(self, operand: Operand | Number) -> Value:
        """`operand` as a value of the graph; constants and numbers become f32 constants."""
        match operand:
            case Value():
                return operand
            case MissingResult(what, needed):
                raise Unsupported(what, needed)
            case QuantizedConstant():
                return self._stored(operand)
            case Complex():
                raise Unsupported("complex numbers", "view_as_real of their products is needed")
            case torch.Tensor():
                return self._constant(operand, operand, ())
            case _:
                return self._scalar(float(operand))

    def weight(self, operand: Operand, *perm: int) -> Value:
        """The operand with its axes permuted: now when it is constant, else by a transpose."""
        match operand:
            case torch.Tensor():
                return self._constant(operand, operand.permute(*perm), perm)
            case QuantizedConstant():
                return self._stored(operand.permuted(perm))
            case _:
                return self.transpose(self.value(operand), *perm)

    def is_mask(self, operand: Operand | Number) -> bool:
        """Whether its elements are 0 and 1 alone: torch has it as booleans, or it is an input of
        integers that is called a mask.
        """
        if isinstance(operand, torch.Tensor):
            return operand.dtype == torch.bool
        if not isinstance(operand, Value):
            return isinstance(operand, bool)
        return operand.name in self._booleans or is_mask(operand, self.builder.producer)

    def bits(self, operand: Operand | Number) -> Value:
        """Booleans, or integers that are 0 or 1, as floats 0 and 1."""
        if not isinstance(operand, Value) or operand.type.is_float:
            return self.value(operand)
        return as_floats(self.add, operand)

    def optional(self, operand: Operand | None) -> Value | None:
        return None if operand is None else self.value(operand)

    def constant(self, operand: Operand | Number, subject: str) -> torch.Tensor:
        """The operand as a tensor known now; Unsupported when it is computed from the inputs."""
        if isinstance(operand, torch.Tensor):
            return operand
        if isinstance(operand, (int, float)):
            return torch.tensor(
                operand, dtype=torch.float64 if isinstance(operand, float) else None
            )
        raise Unsupported(f"{subject} depends on the inputs", "a constant is needed")

    def label(self, tensor: torch.Tensor) -> str | None:
        """The name of the parameter or buffer that `tensor` is."""
        return self._labels.of(tensor)

    def derived(self, tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """`tensor`, a rearranged `source`, under the same name."""
        return self._labels.derive(tensor, source)

    def _constant(self, source: torch.Tensor, array: torch.Tensor, perm: tuple[int, ...]) -> Value:
        if array.is_complex():
            raise Unsupported(f"a constant of {array.dtype}", "view_as_real of products is needed")
        key = (id(source), perm)
        if (name := self.label(source)) is not None and key in self._cache:
            return self._cache[key]
        reals = array.detach().to("cpu", torch.float32).contiguous().numpy()
        if faults := int(np.count_nonzero(~np.isfinite(reals))):
            raise Unsupported(
                f"{name or 'a constant'} holds {faults} NaN or infinite of {reals.size} elements",
                "finite ones are needed",
            )
        value = self._emit(Constant.of(reals, F32), name)
        if name is not None:
            self._cache[key] = value
        return value

    def _scalar(self, x: float) -> Value:
        if not np.isfinite(x):
            raise Unsupported(f"the number {x}", "a finite one is needed")
        if (x, "f32") not in self._cache:
            self._cache[x, "f32"] = self._emit(Constant.of(np.float32(x), F32), None)
        return self._cache[x, "f32"]

    def _stored(self, constant: QuantizedConstant) -> Value:
        integers = constant.integers.detach().to("cpu", torch.int64).contiguous().numpy()
        return self.add(
            Dequantize(self._emit(Constant.of(integers, constant.quant), constant.name))
        )

    def _emit(self, op: Constant, name: str | None) -> Value:
        loc = self.loc if name is None else Loc(f"torch {name}")
        return self.builder.add(replace(op, loc=loc), symbol(name or f"{self.name}.constant"))

    # -- moves that many rules need

    def reshape(self, x: Value, *shape: int) -> Value:
        return x if x.type.shape == shape else self.add(Reshape(x, shape))

    def transpose(self, x: Value, *perm: int) -> Value:
        return x if perm == tuple(range(len(perm))) else self.add(Transpose(x, perm))


def symbol(name: str) -> str:
    """`name` as the text form writes names: what it has no letter for becomes _."""
    return re.sub(r"[^\w.$-]", "_", name) or "torch"


def axis_of(dim: int, rank: int) -> int:
    """A torch dimension, negative ones counted from the end, as an axis 0 .. rank-1."""
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise Unsupported(f"dimension {dim} of rank {rank}", f"{-rank} to {rank - 1} are needed")
    return dim % max(rank, 1)


def indices(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A constant of integers as a NumPy array."""
    return tensor.detach().cpu().numpy().astype(I64.carrier)
