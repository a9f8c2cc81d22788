"""Memory on microcontrollers: python -m tests.bench.microcontrollers [--targets cortex-m4 ...]

RAM and flash of the four networks of MLPerf Tiny, to the byte, beside their official int8 TFLite
files under TensorFlow Lite Micro. Nothing is an estimate: ours is read from what a linker puts into
firmware that calls NAME_run and nothing else, the arena is what TensorFlow Lite Micro itself says
after one inference (pip install tflite-micro; a dash without it). The last columns hold the
workspace against its bound, and against the graph: the most bytes that are alive at one op, each
tensor once and without any frame, in the best order. Results go to .bench/microcontrollers.jsonl.
"""

from __future__ import annotations

import argparse
import heapq
import json
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qir.backends import Artifact, build
from qir.backends.c import executables
from qir.backends.kernels import SLACK
from qir.backends.lowering.fuse import fuse
from qir.backends.lowering.layout import VIEWS
from qir.backends.lowering.program import size_bytes
from qir.backends.proofs.disassembly import functions
from qir.backends.toolchain import link
from qir.ir.graph import Graph
from qir.ir.target import PYTHON
from tests.bench.models import CACHE, integer_graph, zoo_module

OFFICIAL = {
    "resnet8": "resnet8_cifar10_mlperftiny_int8.tflite",
    "dscnn": "dscnn_kws_mlperftiny_int8.tflite",
    "vww": "mobilenetv1_025_vww_mlperftiny_int8.tflite",
    "autoencoder": "fc_autoencoder_toycar_mlperftiny_int8.tflite",
}
"""The zoo's name -> the quantized file that the benchmark publishes, in the zoo's models."""

ALLOCATED = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
PUSHED = re.compile(r"(v?push)(?:\.w)?\s+\{(.*)\}|subw?(?:\.w)?\s+sp,(?: sp,)? #(0x[0-9a-f]+|\d+)")
ALLOCATES, WRITES, EXECUTES, NOBITS = 2, 1, 4, 8  # of ELF sections
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


@dataclass(frozen=True)
class Memory:
    """Bytes of one network on one target. `stack`: at most, of NAME_run and all below it."""

    model: str
    target: str
    workspace: int
    inputs: int
    outputs: int
    stack: int
    code: int
    constants: int
    weights: int
    bound: int
    live: int

    @property
    def ram(self) -> int:
        return self.workspace + self.inputs + self.outputs + self.stack

    @property
    def flash(self) -> int:
        return self.code + self.constants + self.weights


@dataclass(frozen=True)
class Arena:
    """TensorFlow Lite Micro's arena: tensors and scratch, and what it keeps beside them."""

    file_bytes: int
    tensors: int
    kept: int


def main() -> None:
    p = argparse.ArgumentParser(
        prog="python -m tests.bench.microcontrollers", description=__doc__.splitlines()[0]
    )
    p.add_argument("names", nargs="*", default=list(OFFICIAL), help="models of the zoo")
    p.add_argument("--targets", nargs="+", default=["cortex-m4", "cortex-m7"])
    args = p.parse_args()
    heads = ("workspace", "input", "output", "stack", "RAM", "code", "constants", "weights",
             "flash", "arena", "tensors", "file", "plan", "graph")  # fmt: skip
    table = Table("model", "target", title="bytes")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name in args.names:
        arena = official(name)
        for target in args.targets:
            timings = measured(name, target)
            table.add_row(*cells(timings, arena))
            CACHE.mkdir(exist_ok=True)
            with (CACHE / "microcontrollers.jsonl").open("a") as f:
                print(json.dumps({**asdict(timings), **(asdict(arena) if arena else {})}), file=f)
    console.print(table)


def cells(m: Memory, arena: Arena | None) -> list[str]:
    numbers = [m.workspace, m.inputs, m.outputs, m.stack, m.ram, m.code, m.constants, m.weights,
               m.flash]  # fmt: skip
    theirs = [arena.tensors + arena.kept, arena.tensors, arena.file_bytes] if arena else []
    text = [f"{n:,}" for n in [*numbers, *theirs]] + ["-"] * (0 if arena else 3)
    plan = f"{m.workspace / m.bound:.3f}"
    return [m.model, m.target, *text, plan, f"{(m.workspace - SLACK) / m.live:.3f}"]


def measured(name: str, target: str) -> Memory:
    """The network compiled for `target`; its sections as they would lie in firmware."""
    graph = integer_graph(name)
    artifact = build(graph, target, name)
    program = artifact.program
    code, constants = image(artifact)
    return Memory(
        name, target, program.workspace_bytes, sum(map(size_bytes, program.inputs)),
        sum(map(size_bytes, program.outputs)), stack(artifact), code, constants,
        len(program.weights), program.workspace_bound, least_alive(graph),
    )  # fmt: skip


def image(artifact: Artifact) -> tuple[int, int]:
    """Bytes of code and of constants beside the weights, when firmware calls NAME_run alone.

    The memory functions that kernels call are counted with it.
    """
    name, tools = artifact.name, link.toolchain(artifact.target)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.o").write_bytes(artifact.files[f"{name}.o"])
        Path(folder, "libc.c").write_text(executables.freestanding())
        command = (
            *tools.compiler, *tools.flags, *link.RUNNER_FLAGS, "-ffunction-sections", "-static",
            "-nostdlib", "-Wl,--gc-sections", "-Wl,-z,norelro", f"-Wl,-e,{name}_run",
            "-o", "image", "a.o", "libc.c",
        )  # fmt: skip
        arguments = [sys.executable if part == PYTHON else part for part in command]
        subprocess.run(arguments, cwd=folder, check=True, capture_output=True)
        content = Path(folder, "image").read_bytes()
    sizes = {"code": 0, "constants": 0}
    for kind, flags, size in sections(content):
        if flags & ALLOCATES:
            assert not flags & WRITES or not size, "no variables: the program keeps no state"
            assert kind != NOBITS or not size
            sizes["code" if flags & EXECUTES else "constants"] += size
    return sizes["code"], sizes["constants"]


def sections(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(type, flags, size) of each section of a 32-bit little-endian ELF file."""
    (start,) = struct.unpack_from("<I", content, 0x20)
    size, count = struct.unpack_from("<HH", content, 0x2E)
    for i in range(count):
        _, kind, flags, _, _, length = struct.unpack_from("<6I", content, start + i * size)
        yield kind, flags, length


def stack(artifact: Artifact) -> int:
    """The most that NAME_run, one step and one kernel push and reserve, which call one another."""
    frames = {"run": 0, "step": 0, "kernel": 0}
    for f in functions(artifact.files[f"{artifact.name}.o"], artifact.target):
        kind = {f"{artifact.name}_run": "run"}.get(f.name) or (
            "kernel" if f.name.startswith("qir_") else "step" if f.name.startswith("step_") else ""
        )
        if kind:
            frames[kind] = max(frames[kind], sum(reserved(i.text) for i in f.instructions))
    return sum(frames.values())


def reserved(instruction: str) -> int:
    """Bytes of stack that an instruction takes."""
    match = PUSHED.match(instruction.replace("\t", " ").strip())
    if not match:
        return 0
    if match[3]:
        return int(match[3], 0)
    return len(match[2].split(",")) * (8 if match[1].startswith("v") else 4)


def least_alive(graph: Graph) -> int:
    """The most bytes of tensors alive at one fused op, in the order of ops where that is least.

    Inputs and outputs of the graph are left out, views are what they look at. No plan without
    tensors in each other's place needs less.
    """
    sizes, reads = tensors(graph)
    queue, seen = [(0, frozenset[int]())], set()
    while True:
        most, done = heapq.heappop(queue)
        if len(done) == len(sizes):
            return most
        if done in seen:
            continue
        seen.add(done)
        waiting = [i for i in range(len(sizes)) if i not in done]
        pending_reads = {x for i in waiting for x in reads[i]}
        held = sum(sizes[x] for x in pending_reads & done)
        for i in waiting:
            if reads[i] <= done:
                heapq.heappush(queue, (max(most, held + sizes[i]), done | {i}))


def tensors(graph: Graph) -> tuple[list[int], list[set[int]]]:
    """For each fused op: the bytes of its result, and the numbers of the ops that it reads from."""
    outside = {v.name for v in (*graph.inputs, *graph.outputs)}
    maker: dict[str, int | None] = {v.name: None for v in graph.inputs}
    sizes: list[int] = []
    reads: list[set[int]] = []
    for group in fuse(graph.without_dead_code()):
        result, sources = group.result, [maker.get(x.name) for x in group.operands]
        if isinstance(group.anchor, VIEWS):
            maker[result.name] = sources[0]
            continue
        maker[result.name] = len(sizes)
        sizes.append(0 if result.name in outside else size_bytes(result))
        reads.append({s for s in sources if s is not None})
    return sizes, reads


def official(name: str) -> Arena | None:
    """TensorFlow Lite Micro on the benchmark's own file, in a process of its own: it prints."""
    file = zoo_module().MODELS / OFFICIAL[name]
    if name not in OFFICIAL or not file.is_file():
        return None
    done = subprocess.run(
        [sys.executable, "-c", INTERPRET, str(file)], capture_output=True, text=True
    )
    matches = dict(ALLOCATED.findall(done.stdout + done.stderr))
    if not matches:
        return None
    return Arena(file.stat().st_size, int(matches["head"]), int(matches["tail"]))


INTERPRET = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
net = runtime.Interpreter.from_file(sys.argv[1])
x = net.get_input_details(0)
net.set_input(np.zeros(x["shape"], x["dtype"]), 0)
net.invoke()
net.print_allocations()
"""


if __name__ == "__main__":
    main()
