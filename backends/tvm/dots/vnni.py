"""vpdpbusd: four products u8 x i8 into each int32 lane; 512 bits, or 256 with AVX-VNNI."""

from __future__ import annotations

from qir.backends.tvm.dots.vector import PackingDot
from qir.backends.tvm.kernels.writer import Expr, call


class Vnni512(PackingDot):
    name = "vnni512"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return call("llvm.x86.avx512.vpdpbusd.512", "int32x16", acc, spread[0], weights[0])

    def pack_words(self, a: Expr, b: Expr) -> Expr:
        return call("llvm.x86.avx512.packssdw.512", "int16x32", a, b)

    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        name = "packuswb" if dtype == "uint8" else "packsswb"
        return call(f"llvm.x86.avx512.{name}.512", f"{dtype}x64", a, b)


class Vnni256(PackingDot):
    name = "vnni256"

    def step(self, acc: Expr, spread: list[Expr], weights: list[Expr]) -> Expr:
        return call("llvm.x86.avx512.vpdpbusd.256", "int32x8", acc, spread[0], weights[0])

    def pack_words(self, a: Expr, b: Expr) -> Expr:
        return call("llvm.x86.avx2.packssdw", "int16x16", a, b)

    def pack_bytes(self, a: Expr, b: Expr, dtype: str) -> Expr:
        name = "packuswb" if dtype == "uint8" else "packsswb"
        return call(f"llvm.x86.avx2.{name}", f"{dtype}x32", a, b)
