"""The C around the kernels: a header, the entry that calls them in order, and their self-test."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from qir.backends.c import border, dispatch, portable
from qir.backends.c.dispatch import step_name, symbol
from qir.backends.c.portable import comment, printable
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import (
    INPUT,
    OUTPUT,
    WEIGHTS,
    Argument,
    Program,
    Step,
    size_bytes,
)
from qir.backends.toolchain.generators import generator_of
from qir.ir.op import Value
from qir.ir.target import Target
from qir.ir.types import Quant

KEYWORDS = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else",
    "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register",
    "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef",
    "union", "unsigned", "void", "volatile", "while",
))  # fmt: skip


LONGEST_NAME = 99  # and one for what makes it an identifier

SIZES = 9
"""Numbers in NAME_sizes, beside the count and the bytes of each input and output."""


def identifier(name: str) -> str:
    """`name` as a C identifier, short enough for names of files; `program` for none."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)[:LONGEST_NAME].rstrip("_")
    if not plain.strip("_"):
        return "program"
    return f"_{plain}" if plain[0].isdigit() or plain in KEYWORDS else plain


def exports(program: Program, target: Target) -> tuple[str, ...]:
    """The functions that a shared library shows."""
    hosted = ("sizes", "profile", "pool_start", "pool_stop") if target.is_hosted else ()
    chosen = ("variant", "use_variant") if target.variants else ()
    names = [f"{program.name}_{name}" for name in ("run", "run_float", *chosen, *hosted)]
    return (*names, *border.functions(program))


def about(value: Value) -> str:
    """A value as a comment: its storage, shape and reals."""
    shape = "x".join(map(str, value.type.shape)) or "scalar"
    elem = value.type.elem
    if not isinstance(elem, Quant):
        return f"{elem.carrier}[{shape}]"
    if not elem.is_per_tensor:
        return f"{elem.carrier}[{shape}], quantized along axis {elem.axis}"
    zero = elem.zero_point.item()
    return f"{elem.carrier}[{shape}], real = {elem.scale.item()!r} * (stored - {zero})"


def header(programs: Sequence[Program], target: Target, version: str) -> str:
    """NAME.h; of several programs, the last stands for what they have in common."""
    program = programs[-1]
    values = [f" *   input {i}: {about(v)}" for i, v in enumerate(program.inputs)]
    values += [f" *   output {i}: {about(v)}" for i, v in enumerate(program.outputs)]
    return fill(
        "header.h",
        NAME=program.name,
        UPPER=program.name.upper(),
        TARGET=printable(target.name),
        VERSION=version,
        INPUTS=len(program.inputs),
        OUTPUTS=len(program.outputs),
        STEPS=max(len(p.steps) for p in programs),
        HOSTED=int(target.is_hosted and not generator_of(target).is_text),
        ALIGNMENT=target.alignment,
        SLACK=SLACK,
        WORKSPACE=program.workspace_bytes,
        WEIGHTS=len(program.weights),
        STORED=border.scratch(program)[1],
        VALUES="\n".join(values),
        BORDER=border.prototypes(program),
        VARIANTS=dispatch.prototypes(programs),
    )


def entry(programs: Sequence[Program], texts: Mapping[str, str]) -> str:
    """NAME.c: NAME_run and, on a hosted machine, NAME_profile.

    `texts`: the kernels themselves, where they are C; empty where they are in an object.
    """
    program = programs[-1]
    prototypes = {symbol(p, s.symbol): _prototype(p, s) for p in programs for s in p.steps}
    return fill(
        "entry.c",
        NAME=program.name,
        UPPER=program.name.upper(),
        KERNELS=portable.kernels(program, texts) if texts else "\n".join(prototypes.values()),
        FUNCTIONS="\n\n".join(
            _step(p, i, s, texts) for p in programs for i, s in enumerate(p.steps)
        ),
        STEPS=dispatch.steps(programs),
        COUNT=SIZES + len(program.inputs) + len(program.outputs),
        SIZES=_rows([size_bytes(v) for v in (*program.inputs, *program.outputs)]),
    )


def _rows(numbers: Sequence[int]) -> str:
    """Elements of an array, several on a line."""
    return textwrap.fill(", ".join(map(str, numbers)), 84).replace("\n", "\n" + " " * 8)


def _prototype(program: Program, step: Step) -> str:
    pointers = ["void *" if a.name == "y" else "const void *" for a in step.arguments]
    return f"void {symbol(program, step.symbol)}({', '.join(pointers)}, int32_t, int32_t);"


def _step(program: Program, number: int, step: Step, texts: Mapping[str, str]) -> str:
    called = step.symbol if texts else symbol(program, step.symbol)
    arguments = "".join(
        f"        {_pointer(a, bool(texts))}, /* {printable(f'{a.name}: {a.about}')} */\n"
        for a in step.arguments
    )
    place = f" ({step.loc.source})" if step.loc.source else ""
    machine = f"{program.variant}, " if program.variant else ""
    name = step_name(program, number)
    parameters = "const void *context, int32_t begin, int32_t end, int32_t thread"
    return (
        f"{comment(f'{machine}{number}: {step.title}{place}')}\n"
        f"static void {name}({parameters}) {{\n"
        f"    const struct call *c = context;\n    (void)thread;\n"
        f"    {called}(\n{arguments}        begin, end);\n}}"
    )


def _pointer(argument: Argument, is_typed: bool) -> str:
    """`is_typed`: the kernel's parameter points to elements, not to bytes."""
    address = argument.address
    bases = {
        INPUT: f"(const unsigned char *)c->inputs[{address.index}]",
        OUTPUT: f"(unsigned char *)c->outputs[{address.index}]",
        WEIGHTS: "c->weights",
    }
    place = f"{bases.get(address.space, 'c->workspace')} + {address.offset}"
    const = "" if argument.name == "y" else "const "
    return f"({const}void *)({place})" if is_typed else place


def selftest(program: Program, cases: int) -> str:
    """NAME_test.c: runs the golden inputs and compares the outputs."""
    return fill(
        "selftest.c",
        NAME=program.name,
        UPPER=program.name.upper(),
        INPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.inputs),
        OUTPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.outputs),
        INPUT_ITEMS=", ".join(str(v.type.elem.carrier.itemsize) for v in program.inputs),
        OUTPUT_ITEMS=", ".join(str(v.type.elem.carrier.itemsize) for v in program.outputs),
        CASES=cases,
    )


def runner(program: Program) -> str:
    """runner.c: reads cases from standard input, writes the program's outputs."""
    held = {"input": program.inputs, "output": program.outputs}
    sizes = {kind: [size_bytes(v) for v in values] for kind, values in held.items()}
    lines = [
        f"static unsigned char {kind}_{i}[ROOM({size}) + {SLACK}] ALIGNED;"
        for kind, of in sizes.items()
        for i, size in enumerate(of)
    ]
    names = {k: ", ".join(f"{k}_{i}" for i in range(len(of))) for k, of in sizes.items()}
    return fill(
        "runner.c",
        NAME=program.name,
        UPPER=program.name.upper(),
        BUFFERS="\n".join(lines),
        INPUT_BYTES=", ".join(map(str, sizes["input"])),
        OUTPUT_BYTES=", ".join(map(str, sizes["output"])),
        INPUTS=names["input"],
        OUTPUTS=names["output"],
    )


def freestanding() -> str:
    """The runner's replacement of a C library."""
    return fill("freestanding.c")


def board(target: Target) -> dict[str, bytes]:
    """The runner's replacement of an operating system: system calls and a memory map."""
    if not target.board:
        return {}
    return {file: fill(file).encode() for file in ("semihosting.h", f"{target.board}.ld")}


def weights(program: Program) -> str:
    """NAME_weights.S: weights.bin as read-only data."""
    return fill("weights.S", NAME=program.name)


def pool(program: Program) -> str:
    """NAME_pool.c: threads for hosted programs."""
    return fill("pool.c", NAME=program.name)
