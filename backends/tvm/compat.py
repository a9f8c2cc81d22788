"""The names of TVM 0.27 that kernels use, in one place."""

from __future__ import annotations

from tvm import IRModule, get_global_func, s_tir, tirx
from tvm.ir import GlobalVar, PointerType, PrimType
from tvm.ir.transform import Sequential
from tvm.target import Target
from tvm.target.codegen import llvm_lookup_intrinsic_id
from tvm.tirx import PrimFunc, Var

__all__ = [
    "GlobalVar",
    "IRModule",
    "PointerType",
    "PrimFunc",
    "PrimType",
    "Sequential",
    "Target",
    "Var",
    "get_global_func",
    "llvm_lookup_intrinsic_id",
    "s_tir",
    "tirx",
]
