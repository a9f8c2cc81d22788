"""Kernels for AVX512-VNNI on a machine with AVX2 alone: LLVM splits their vectors, and the
instructions that it cannot split are written out. Shows that a kernel is right, not its machine
code.

build(graph) gives an artifact that runs where AVX2 is. Needs opt and llc of LLVM's release in TVM.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from qir.backends import Artifact, find
from qir.backends import build as build_artifact
from qir.backends.artifact import compiled
from qir.backends.kernels.kernel import Code
from qir.backends.targets.generators import generator_of
from qir.backends.toolchain.compile import Compiled
from qir.ir.graph import Graph
from qir.ir.target import Target

LLVM = "22"

DOT = """
define internal <16 x i32> @written.vpdpbusd(<16 x i32> %acc, <64 x i8> %x, <64 x i8> %w) {
  %a = zext <64 x i8> %x to <64 x i32>
  %b = sext <64 x i8> %w to <64 x i32>
  %p = mul <64 x i32> %a, %b
"""


def _strided(source: str, name: str, at: int) -> str:
    picks = ", ".join(f"i32 {4 * i + at}" for i in range(16))
    return (
        f"  %{name} = shufflevector <64 x i32> {source}, <64 x i32> poison, <16 x i32> <{picks}>\n"
    )


def _dot() -> str:
    text = DOT + "".join(_strided("%p", f"q{k}", k) for k in range(4))
    text += "  %s0 = add <16 x i32> %acc, %q0\n"
    text += "".join(f"  %s{k} = add <16 x i32> %s{k - 1}, %q{k}\n" for k in (1, 2, 3))
    return text + "  ret <16 x i32> %s3\n}\n"


def _permute() -> str:
    text = """
define internal <32 x i16> @written.vpermi2var(<32 x i16> %a, <32 x i16> %i, <32 x i16> %b) {
  %both = shufflevector <32 x i16> %a, <32 x i16> %b, <64 x i32> <""" + ", ".join(
        f"i32 {k}" for k in range(64)
    )
    text += ">\n  %m = and <32 x i16> %i, splat (i16 63)\n"
    last = "poison"
    for k in range(32):
        text += f"  %i{k} = extractelement <32 x i16> %m, i32 {k}\n"
        text += f"  %w{k} = zext i16 %i{k} to i32\n"
        text += f"  %e{k} = extractelement <64 x i16> %both, i32 %w{k}\n"
        text += f"  %v{k} = insertelement <32 x i16> {last}, i16 %e{k}, i32 {k}\n"
        last = f"%v{k}"
    return text + "  ret <32 x i16> %v31\n}\n"


WRITTEN = {
    "llvm.x86.avx512.vpdpbusd.512": ("written.vpdpbusd", _dot()),
    "llvm.x86.avx512.vpermi2var.hi.512": ("written.vpermi2var", _permute()),
}


def split(text: str) -> str:
    """LLVM's text of kernels for AVX512 as one for AVX2."""
    text = re.sub(r'"target-cpu"="[^"]*"', '"target-cpu"="x86-64-v3"', text)
    text = re.sub(r'"target-features"="[^"]*"', "", text)
    text = re.sub(r'"prefer-vector-width"="[^"]*"', "", text)
    for name, (own, body) in WRITTEN.items():
        if f"@{name}(" in text:
            text = re.sub(rf"declare [^\n]*@{re.escape(name)}\([^\n]*\n", "", text)
            text = text.replace(f"@{name}(", f"@{own}(") + body
    if left := set(re.findall(r"@(llvm\.x86\.avx512\.[\w.]+)", text)):
        raise AssertionError(f"not written out: {sorted(left)}")
    return text


def _object(text: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="qir-") as folder:
        source, better, made = (Path(folder) / f"kernels.{end}" for end in ("ll", "bc", "o"))
        source.write_text(split(text))
        subprocess.run([f"opt-{LLVM}", "-O2", str(source), "-o", str(better)], check=True)
        command = [f"llc-{LLVM}", "-O2", "-filetype=obj", "-relocation-model=pic"]
        subprocess.run([*command, str(better), "-o", str(made)], check=True)
        return made.read_bytes()


def compile_split(codes: Mapping[str, Code], target: Target) -> Compiled:
    """In place of compile_kernels."""
    from qir.backends.tvm.build import generate, guarded, lower
    from qir.backends.tvm.kernels.registry import emit

    machine = guarded(generator_of(target).machine(target))
    objects = {}
    for i, (symbol, code) in enumerate(sorted(codes.items())):
        module = lower({symbol: emit(code, symbol)}, machine)
        objects[f"kernels{i}.o"] = _object(str(generate(module, machine).inspect_source("ll")))
    return Compiled(objects, tuple(sorted(codes)), "split", {})


needed = pytest.mark.skipif(
    not all(shutil.which(f"{tool}-{LLVM}") for tool in ("opt", "llc")),
    reason=f"this CPU lacks AVX512, perhaps; opt-{LLVM} and llc-{LLVM} split its vectors",
)


def build(graph: Graph) -> Artifact:
    """The artifact for AVX512-VNNI, its kernels split."""
    target = replace(find("x86-avx512vnni"), needs=find("x86-avx2").needs)
    with mock.patch.object(compiled, "compile_kernels", compile_split):
        return build_artifact(graph, target)
