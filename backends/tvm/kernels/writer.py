"""Writes a TIR function statement by statement: vectors, loads, stores, loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from qir.backends.tvm.compat import (
    PointerType,
    PrimFunc,
    PrimType,
    Var,
    llvm_lookup_intrinsic_id,
    tirx,
)

Expr: TypeAlias = Any
"""A TIR expression; TVM has no types to check against."""

ELEMENTS = (1 << 31) - 1  # a pointer's extent is unknown; large enough for any index


@cache
def _intrinsic(name: str) -> int:
    return int(llvm_lookup_intrinsic_id(name))


def call(name: str, dtype: str, *args: Expr) -> Expr:
    """A pure LLVM intrinsic."""
    return tirx.call_llvm_pure_intrin(dtype, tirx.const(_intrinsic(name), "uint32"), *args)


def splat(value: int, dtype: str, lanes: int) -> Expr:
    scalar = tirx.const(value, dtype)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def kind(dtype: str, lanes: int) -> str:
    """TVM's name of a vector, or of a scalar when lanes is 1."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def cast(value: Expr, dtype: str, lanes: int) -> Expr:
    """The same integers in another width."""
    return tirx.Cast(kind(dtype, lanes), value)


def clamp(value: Expr, low: int, high: int, dtype: str, lanes: int) -> Expr:
    """min(max(value, low), high) in the dtype of the value."""
    return tirx.min(tirx.max(value, splat(low, dtype, lanes)), splat(high, dtype, lanes))


def shuffle(vectors: Sequence[Expr], picks: Sequence[int]) -> Expr:
    """Lanes `picks` of the vectors laid end to end."""
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", int(p)) for p in picks])


def cast_bits(value: Expr, dtype: str) -> Expr:
    return tirx.reinterpret(dtype, value)


class Writer:
    """One function under construction; parameters are in the order they are asked for."""

    def __init__(self) -> None:
        self._params: list[Var] = []
        self._head: list[object] = []
        self._blocks: list[list[object]] = [self._head]
        self._names = 0
        self._aligned: list[tuple[Var, int]] = []

    def pointer(self, name: str, dtype: str) -> Expr:
        var = Var(name, PointerType(PrimType(dtype), "global"))
        buffer = tirx.decl_buffer((ELEMENTS,), dtype, name, data=var)
        self._params.append(var)
        self._emit(tirx.DeclBuffer(buffer, data=var))
        return buffer

    def view(self, buffer: Expr, dtype: str) -> Expr:
        """The memory of a pointer as elements of another dtype."""
        other = tirx.decl_buffer((ELEMENTS,), dtype, f"{buffer.name}_{dtype}", data=buffer.data)
        self._emit(tirx.DeclBuffer(other, data=buffer.data))
        return other

    def align(self, buffer: Expr, size: int) -> None:
        """Let LLVM know that a pointer parameter is a multiple of `size` bytes."""
        pointer = next(p for p in self._params if p.name == buffer.name)
        self._aligned.append((pointer, size))

    def scalar(self, name: str) -> Expr:
        var = Var(name, "int32")
        self._params.append(var)
        return var

    def let(self, value: Expr, name: str = "v") -> Expr:
        """Evaluate once, use many times."""
        if isinstance(value, int | Var | tirx.IntImm):
            return value
        self._names += 1
        var = Var(f"{name}{self._names}", value.ty)
        self._emit(tirx.Bind(var, value))
        return var

    def load(self, buffer: Expr, at: Expr, lanes: int = 1) -> Expr:
        index = at if lanes == 1 else tirx.Ramp(_expr(at), _expr(1), lanes)
        return tirx.BufferLoad(buffer, [_expr(index)])

    def store(self, buffer: Expr, at: Expr, value: Expr, lanes: int = 1) -> None:
        index = at if lanes == 1 else tirx.Ramp(_expr(at), _expr(1), lanes)
        self._emit(tirx.BufferStore(buffer, value, [_expr(index)]))

    def anew(self, buffer: Expr) -> Expr:
        """The same buffer, but LLVM may not carry loads from it out of the present loop.

        Without this, loop constants that cost one memory operand each become spilled registers.
        """
        launder = "llvm.launder.invariant.group"
        id_ = tirx.const(_intrinsic(launder), "uint32")
        self._names += 1
        kind = PointerType(PrimType(str(buffer.dtype)), "global")
        pointer = Var(f"{buffer.name}{self._names}", kind)
        self._emit(tirx.Bind(pointer, tirx.call_llvm_intrin(kind, id_, buffer.data)))
        alias = tirx.decl_buffer((ELEMENTS,), buffer.dtype, pointer.name, data=pointer)
        self._emit(tirx.DeclBuffer(alias, data=pointer))
        return alias

    def aligned(self, count: int, dtype: str, alignment: int) -> Expr:
        """Memory on the stack, at a multiple of `alignment` bytes; TVM gives 16 at most."""
        spare = alignment // np.dtype(dtype).itemsize
        memory = tirx.decl_buffer((count + spare,), dtype, "whole", scope="local")
        self._emit(tirx.AllocBuffer(memory))
        kind = PointerType(PrimType(dtype), "global")
        pointer, id_ = Var("held", kind), tirx.const(_intrinsic("llvm.ptrmask"), "uint32")
        end = tirx.address_of(tirx.BufferLoad(memory, [_expr(spare)]))
        mask = tirx.const(-alignment, "int64")
        self._emit(tirx.Bind(pointer, tirx.call_llvm_intrin(kind, id_, end, mask)))
        view = tirx.decl_buffer((count,), dtype, "held", data=pointer)
        self._emit(tirx.DeclBuffer(view, data=pointer))
        return view

    def registers(self, count: int, dtype: str, lanes: int) -> Registers:
        """Vectors that can be assigned again; LLVM keeps them in registers."""
        buffer = tirx.decl_buffer((count * lanes,), dtype, "acc", scope="local")
        self._emit(tirx.AllocBuffer(buffer))
        return Registers(self, buffer, lanes)

    @contextmanager
    def loop(self, begin: Expr, end: Expr, name: str = "i") -> Iterator[Expr]:
        self._names += 1
        var = Var(f"{name}{self._names}", "int32")
        self._blocks.append([])
        yield var
        body = _sequence(self._blocks.pop())
        extent = _expr(end - begin)
        self._emit(tirx.For(var, _expr(begin), extent, tirx.ForKind.SERIAL, body))

    @contextmanager
    def steps(self, count: int, name: str = "i") -> Iterator[Expr]:
        """A loop from 0 to a constant; no loop at all when it is 1."""
        if count == 1:
            yield 0
            return
        with self.loop(0, count, name) as var:
            yield var

    def split(self, index: Expr, extent: int) -> tuple[Expr, Expr]:
        """Quotient and remainder by a constant; an extent of 1 costs nothing."""
        if extent == 1:
            return index, 0
        if isinstance(index, int):
            return divmod(index, extent)
        by = tirx.IntImm("int32", extent)
        return self.let(tirx.truncdiv(index, by)), self.let(tirx.truncmod(index, by))

    def finish(self, symbol: str) -> PrimFunc:
        body = _sequence(self._head)
        for pointer, size in self._aligned:
            body = tirx.AttrStmt(pointer, "storage_alignment", tirx.IntImm("int32", size), body)
        function = PrimFunc(self._params, body)
        attributes = {"tirx.noalias": True, "qir.flat": True, "global_symbol": symbol}
        for name, value in attributes.items():
            function = function.with_attr(name, value)
        return function

    def _emit(self, statement: object) -> None:
        self._blocks[-1].append(statement)


class Registers:
    """`registers[i]` reads, `registers[i] = value` assigns."""

    def __init__(self, writer: Writer, buffer: Expr, lanes: int) -> None:
        self._writer, self._buffer, self._lanes = writer, buffer, lanes

    def __getitem__(self, index: int) -> Expr:
        return self._writer.load(self._buffer, index * self._lanes, self._lanes)

    def __setitem__(self, index: int, value: Expr) -> None:
        self._writer.store(self._buffer, index * self._lanes, value, self._lanes)


def _expr(value: Expr) -> Expr:
    return tirx.IntImm("int32", value) if isinstance(value, int) else value


def _sequence(statements: list[object]) -> Expr:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
