"""Writes a TIR function statement by statement: vectors of lanes, loads and stores at byte offsets, loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from qir.backends.tvm.compat import (
    PointerType,
    PrimFunc,
    PrimType,
    Var,
    llvm_lookup_intrinsic_id,
    tirx,
)

ELEMENTS = 1 << 30  # a pointer's extent is unknown; large enough for any index


@cache
def _intrinsic(name: str) -> int:
    return int(llvm_lookup_intrinsic_id(name))


def call(name: str, dtype: str, *args):  # type: ignore[no-untyped-def]
    """A pure LLVM intrinsic."""
    return tirx.call_llvm_pure_intrin(dtype, tirx.const(_intrinsic(name), "uint32"), *args)


def splat(value: int, dtype: str, lanes: int):  # type: ignore[no-untyped-def]
    scalar = tirx.const(value, dtype)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def shuffle(vectors: Sequence, picks: Sequence[int]):  # type: ignore[no-untyped-def,type-arg]
    """Lanes `picks` of the vectors laid end to end."""
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", int(p)) for p in picks])


def cast_bits(value, dtype: str):  # type: ignore[no-untyped-def]
    return tirx.reinterpret(dtype, value)


class Writer:
    """One function under construction. Parameters are pointers and int32 scalars, in the order they are asked for."""

    def __init__(self) -> None:
        self._params: list[Var] = []
        self._head: list[object] = []
        self._blocks: list[list[object]] = [self._head]
        self._names = 0

    def pointer(self, name: str, dtype: str):  # type: ignore[no-untyped-def]
        var = Var(name, PointerType(PrimType(dtype), "global"))
        buffer = tirx.decl_buffer((ELEMENTS,), dtype, name, data=var)
        self._params.append(var)
        self._emit(tirx.DeclBuffer(buffer, data=var))
        return buffer

    def scalar(self, name: str):  # type: ignore[no-untyped-def]
        var = Var(name, "int32")
        self._params.append(var)
        return var

    def let(self, value, name: str = "v"):  # type: ignore[no-untyped-def]
        """Evaluate once, use many times."""
        if isinstance(value, int | Var | tirx.IntImm):
            return value
        self._names += 1
        var = Var(f"{name}{self._names}", value.ty)
        self._emit(tirx.Bind(var, value))
        return var

    def load(self, buffer, at, lanes: int = 1):  # type: ignore[no-untyped-def]
        index = at if lanes == 1 else tirx.Ramp(_expr(at), _expr(1), lanes)
        return tirx.BufferLoad(buffer, [_expr(index)])

    def store(self, buffer, at, value, lanes: int = 1) -> None:  # type: ignore[no-untyped-def]
        index = at if lanes == 1 else tirx.Ramp(_expr(at), _expr(1), lanes)
        self._emit(tirx.BufferStore(buffer, value, [_expr(index)]))

    def registers(self, count: int, dtype: str, lanes: int) -> Registers:
        """Vectors that can be assigned again; LLVM keeps them in registers."""
        buffer = tirx.decl_buffer((count * lanes,), dtype, "acc", scope="local")
        self._emit(tirx.AllocBuffer(buffer))
        return Registers(self, buffer, lanes)

    @contextmanager
    def loop(self, begin, end, name: str = "i") -> Iterator:  # type: ignore[no-untyped-def,type-arg]
        self._names += 1
        var = Var(f"{name}{self._names}", "int32")
        self._blocks.append([])
        yield var
        body = _sequence(self._blocks.pop())
        extent = _expr(end - begin)
        self._emit(tirx.For(var, _expr(begin), extent, tirx.ForKind.SERIAL, body))

    @contextmanager
    def steps(self, count: int, name: str = "i") -> Iterator:  # type: ignore[no-untyped-def,type-arg]
        """A loop from 0 to a constant; no loop at all when it is 1."""
        if count == 1:
            yield 0
            return
        with self.loop(0, count, name) as var:
            yield var

    def finish(self, symbol: str) -> PrimFunc:
        function = PrimFunc(self._params, _sequence(self._head))
        attributes = {"tirx.noalias": True, "qir.flat": True, "global_symbol": symbol}
        for name, value in attributes.items():
            function = function.with_attr(name, value)
        return function

    def _emit(self, statement: object) -> None:
        self._blocks[-1].append(statement)


class Registers:
    """`registers[i]` reads, `registers[i] = value` assigns."""

    def __init__(self, writer: Writer, buffer, lanes: int) -> None:  # type: ignore[no-untyped-def]
        self._writer, self._buffer, self._lanes = writer, buffer, lanes

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        return self._writer.load(self._buffer, index * self._lanes, self._lanes)

    def __setitem__(self, index: int, value) -> None:  # type: ignore[no-untyped-def]
        self._writer.store(self._buffer, index * self._lanes, value, self._lanes)


def _expr(value):  # type: ignore[no-untyped-def]
    return tirx.IntImm("int32", value) if isinstance(value, int) else value


def _sequence(statements: list):  # type: ignore[no-untyped-def,type-arg]
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
