"""Compiles TIR functions to an object file with a plain C interface."""

from __future__ import annotations

import math
import os
import select
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qir.backends.tvm.compat import (
    GlobalVar,
    IRModule,
    PointerType,
    PrimFunc,
    PrimType,
    Sequential,
    Target,
    Var,
    get_global_func,
    llvm_lookup_intrinsic_id,
    s_tir,
    tirx,
)

_S, _X = s_tir.transform, tirx.transform


@_X.prim_func_pass(opt_level=0)
class PlainABI:
    """A parameter of buffer type becomes a pointer: what `MakeUnpackedAPI` did before 0.27."""

    def transform_function(self, func: PrimFunc, mod: IRModule, ctx: object) -> PrimFunc:
        params, declarations = [], []
        for param in func.params:
            if type(param.ty).__name__ == "BufferType":
                pointer = Var(
                    f"{param.name}_p", PointerType(PrimType(str(param.ty.dtype)), "global")
                )
                declarations.append(tirx.DeclBuffer(param, data=pointer))
                param = pointer
            params.append(param)
        if not declarations:
            return func
        return PrimFunc(params, tirx.SeqStmt([*declarations, func.body]), func.ret_type, func.attrs)


def _passes() -> list[object]:
    """Schedulable TIR to flat loops with raw pointers; written-out kernels go through unchanged."""
    return [
        _S.CanonicalizeLoop(),
        _S.LowerInitBlock(),
        _S.PlanAndUpdateBufferAllocationLocation(),
        _S.ConvertBlocksToOpaque(),
        _S.CompactBufferAllocation(),
        _S.LowerMatchBuffer(),
        _S.StmtSimplify(),
        _S.AnnotateIrregularLoop(),
        _S.LowerOpaqueBlock(),
        _X.FlattenBuffer(),
        _X.NarrowDataType(32),
        _S.LoopPartition(),
        _X.VectorizeLoop(True),
        _X.StorageRewrite(),
        _S.HoistIfThenElse(),
        _X.UnrollLoop(),
        _S.RenormalizeSplitPattern(),
        _X.StmtSimplify(),
        _X.RemoveNoOp(),
        _S.RewriteUnsafeSelect(),
        _X.CommonSubexprElim(),
        _X.VerifyMemory(),
        PlainABI(),
    ]


def lower(functions: Mapping[str, PrimFunc], target: Mapping[str, object]) -> IRModule:
    """All passes up to code generation; a function marked `qir.flat` needs only the last."""
    machine = Target(dict(target))
    machine = machine.with_host(machine)
    flat = {name: f for name, f in functions.items() if f.attrs and "qir.flat" in f.attrs}
    rest = {name: f for name, f in functions.items() if name not in flat}
    results = {}
    with machine:
        for group, passes in ((rest, _passes()), (flat, [])):
            if group:
                mod = IRModule(
                    {
                        GlobalVar(name): f.with_attr("global_symbol", name)
                        for name, f in group.items()
                    }
                )
                mod = Sequential([_X.BindTarget(machine), *passes, _X.LowerIntrin()])(mod)
                results.update(mod.functions)
    return IRModule(dict(sorted(results.items(), key=lambda item: item[0].name_hint)))


def generate(module: IRModule, target: Mapping[str, object]) -> Any:
    """TVM's code generator for the target's kind; holds the source and writes the object."""
    machine = Target(dict(target))
    return get_global_func(f"target.build.{machine.kind.name}")(module, machine)


def guarded(target: Mapping[str, object]) -> dict[str, object]:
    """The target without AVX512-VBMI: its byte shuffles send LLVM 22 into endless loops."""
    plain = dict(target)
    attributes: Any = plain.get("mattr", [])
    features = list(attributes)
    if _is_x86(plain):
        plain["mattr"] = [f for f in features if f.lstrip("+-") not in _VBMI] + [
            "-" + f for f in _VBMI
        ]
    return plain


_VBMI = ("avx512vbmi", "avx512vbmi2")


def _is_x86(target: Mapping[str, object]) -> bool:
    return target.get("kind") == "llvm" and str(target.get("mtriple", "")).startswith("x86_64")


def build_object(
    functions: Mapping[str, PrimFunc], target: Mapping[str, object], limit_seconds: float = 120.0
) -> bytes:
    """One relocatable object that defines the functions, and needs at most memset and memcpy.

    Code generation runs in a forked process that is stopped after `limit_seconds`, because LLVM can
    loop for ever.
    Errors: CodegenTimeout naming the functions; whatever TVM raises for a function it refuses.
    """
    target = guarded(target)
    module = lower(functions, target)
    if _is_x86(target):
        module = IRModule({name: _framed(f) for name, f in module.functions.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.o"
        _within(
            limit_seconds,
            lambda: generate(module, target).write_to_file(str(path)),
            sorted(functions),
        )
        return path.read_bytes()


def _framed(function: PrimFunc) -> PrimFunc:
    """The function with a frame, so that LLVM can align its stack for vectors.

    x86 calls with a stack at a multiple of 16 bytes. LLVM aligns it further only with a frame
    pointer, and whether to keep one it decides before it knows what must be spilled: every second
    vector of 32 bytes then straddles two cache lines where a process's stack happens to begin
    wrong, at up to 1.7 times the time of a kernel. Who asks for a frame's address gets a frame; it
    is never 0.
    """
    kind, name = PointerType(PrimType("int8"), "global"), "llvm.frameaddress"
    id_ = tirx.const(int(llvm_lookup_intrinsic_id(name)), "uint32")
    frame = Var("frame", kind)
    here = tirx.Bind(frame, tirx.call_llvm_intrin(kind, id_, tirx.const(0, "int32")))
    is_framed = tirx.NE(tirx.reinterpret("uint64", frame), tirx.const(0, "uint64"))
    body = tirx.SeqStmt([here, tirx.IfThenElse(is_framed, function.body, None)])
    return PrimFunc(function.params, body, function.ret_type, function.attrs)


class CodegenTimeout(RuntimeError):
    """LLVM did not finish."""


def _within(seconds: float, work: Callable[[], object], names: list[str]) -> None:
    """Do the work in a child process; pass its failure on."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + 1)  # ends the child also when the parent is killed
        _run_and_exit(work, writer)
    os.close(writer)
    try:
        is_ready, _, _ = select.select([reader], [], [], seconds)
        message = b"".join(iter(lambda: os.read(reader, 65536), b"")) if is_ready else b""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if not is_ready:
        raise CodegenTimeout(f"code generation of {', '.join(names)}: not done after {seconds:g} s")
    if message != b"done":
        reason = message.decode(errors="replace") or f"the compiler died with status {status}"
        raise RuntimeError(f"code generation of {', '.join(names)}: {reason}")


def _run_and_exit(work: Callable[[], object], writer: int) -> None:
    """In the child: never return to the parent's code, not even by an exception."""
    os.closerange(3, writer)  # connections of the parent, which must close when it dies
    try:
        work()
        message = b"done"
    except BaseException:
        message = traceback.format_exc().encode()
    try:
        os.write(writer, message)
    finally:
        os._exit(0)
