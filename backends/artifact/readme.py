"""The README.md of an artifact: what it takes, how it is called, linked and checked."""

from __future__ import annotations

from collections.abc import Iterable

from qir.backends.artifact.footprint import Footprint
from qir.backends.c.entry import about
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import Program, size_bytes
from qir.backends.toolchain.generators import generator_of
from qir.backends.toolchain.link import candidates_of
from qir.ir.errors import printable
from qir.ir.target import PYTHON, Target

EMULATE = """\
On another machine, with qir and an emulator ({emulator}) installed:

    python -c "import qir.runtime as r; print(r.load('.', emulate=True).selftest(), 'cases equal')"
"""

SELFTEST = """\
The golden inputs give the golden outputs, byte for byte; no Python is needed:

    {compiler} -O2 {name}_test.c lib{name}.a -lpthread -o selftest
    ./selftest .
"""


def readme(
    program: Program, target: Target, footprint: Footprint, needed: Iterable[str], version: str
) -> str:
    """README.md; `needed`: the functions of the C library that the core calls."""
    name = program.name
    functions = ", ".join(f"`{symbol}`" for symbol in needed)
    names = {
        kind: [f"{kind}_{i}" for i in range(len(values))]
        for kind, values in (("input", program.inputs), ("output", program.outputs))
    }
    return fill(
        "readme.md",
        NAME=name,
        UPPER=name.upper(),
        TARGET=target.name,
        ABOUT=target.about or target.name,
        VERSION=version,
        MACS=f"{program.macs:,}",
        STEPS=len(program.steps),
        PORTS=_ports(program),
        CODE=f"{footprint.code:,}",
        WEIGHTS=f"{footprint.weights:,}",
        FLASH=f"{footprint.flash:,}",
        WORKSPACE=f"{footprint.workspace:,}",
        STATIC=f"{footprint.static:,}",
        RAM=f"{footprint.ram:,}",
        SLACK=SLACK,
        INPUT_BYTES=f"{footprint.inputs:,}",
        OUTPUT_BYTES=f"{footprint.outputs:,}",
        NEEDED=functions or "nothing",
        BUFFERS=_buffers(program),
        INPUTS=", ".join(names["input"]),
        OUTPUTS=", ".join(names["output"]),
        LINK=_link(program, target),
        CHECK=_check(program, target),
    )


def _ports(program: Program) -> str:
    lines = [f"- input {i} (`{_code(v.name)}`): {about(v)}" for i, v in enumerate(program.inputs)]
    pairs = zip(program.outputs, program.output_names, strict=True)
    lines += [f"- output {i} (`{_code(name)}`): {about(v)}" for i, (v, name) in enumerate(pairs)]
    return "\n".join(lines)


def _code(name: str) -> str:
    """A name from a model, for use between backticks."""
    return printable(name).replace("`", "'")


def _buffers(program: Program) -> str:
    slack = f" + {program.name.upper()}_INPUT_SLACK"
    lines = [
        f"static unsigned char input_{i}[{size_bytes(v)}{slack}] ALIGNED;"
        for i, v in enumerate(program.inputs)
    ]
    lines += [
        f"static unsigned char output_{i}[{size_bytes(v)}] ALIGNED;"
        for i, v in enumerate(program.outputs)
    ]
    return "\n".join(lines)


def _compiler(target: Target) -> str:
    """The first toolchain that is a program of its own, else the first."""
    own = [t for t in candidates_of(target) if t.compiler[0] != PYTHON]
    chosen = (own or candidates_of(target))[0]
    words = ["python" if word == PYTHON else word for word in (*chosen.compiler, *chosen.flags)]
    return " ".join(words)


def _link(program: Program, target: Target) -> str:
    name = program.name
    code = f"{name}.c" if generator_of(target).is_text else f"lib{name}.a"
    result = "program" if target.is_hosted else "firmware.elf"
    return f"{_compiler(target)} -O2 main.c {name}_weights.S {code} -o {result}"


def _check(program: Program, target: Target) -> str:
    parts = []
    if target.is_hosted:
        parts.append(SELFTEST.format(compiler=_compiler(target), name=program.name))
    if target.emulator:
        parts.append(EMULATE.format(emulator=target.emulator[0]))
    return "\n".join(parts).rstrip()
