"""The C programs beside an artifact: its self-test, and its runner for emulators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qir.backends.c.calls import local
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.program import LoweredProgram, size_bytes
from qir.ir.op import Value
from qir.ir.target import Target


def selftest(entries: Sequence[LoweredProgram], calls: Sequence[str]) -> str:
    """NAME_test.c: runs the golden inputs and compares the outputs.

    `entries`: a program of each; `calls`: the entry of each golden case.
    """
    program = entries[0]
    names = {"NAME": program.name, "UPPER": program.name.upper()}
    tools = fill("executables/golden.c", UPPER=program.name.upper())
    if not program.entry:
        return fill(
            "executables/selftest.c",
            **names,
            TOOLS=tools,
            INPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.inputs),
            OUTPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.outputs),
            INPUT_ITEMS=", ".join(str(_item(v)) for v in program.inputs),
            OUTPUT_ITEMS=", ".join(str(_item(v)) for v in program.outputs),
            CASES=len(calls),
        )
    numbers = {p.entry: i for i, p in enumerate(entries)}
    return fill(
        "executables/selftest_calls.c",
        **names,
        TOOLS=tools,
        PORTS="\n".join(map(_ports, entries)),
        ENTRIES="\n".join(map(_tested, entries)),
        CALLS=", ".join(str(numbers[name]) for name in calls) or "0",
        COUNT=len(calls),
        MOST=max(len(p.inputs) + len(p.outputs) for p in entries),
    )


def _item(value: Value) -> int:
    return value.type.elem.carrier.itemsize


def _ports(program: LoweredProgram) -> str:
    pairs = ", ".join(
        f"{{{size_bytes(v)}, {_item(v)}}}" for v in (*program.inputs, *program.outputs)
    )
    return f"static const long {local(program)}ports[][2] = {{{pairs}}};"


def _tested(program: LoweredProgram) -> str:
    return (
        f'    {{"{program.entry}", {program.c_name}_run, {local(program)}ports,'
        f" {len(program.inputs)}, {len(program.outputs)}}},"
    )


PROTOCOL = """\
 * Standard input: a 32-bit count of cases, then the stored inputs of each case.
 * Standard output: the stored outputs of each case."""

CALLS_PROTOCOL = """\
 * Standard input: a 32-bit count of calls; 32 bits, 1 where the bytes of a state follow and 0 for a
 * new state; then for each call the number of its entry, of 32 bits, and its stored inputs.
 * Standard output: the stored outputs of each call; then the bytes of the state."""


def runner(entries: Sequence[LoweredProgram]) -> str:
    """runner.c: reads cases from standard input, writes the program's outputs."""
    program = entries[0]
    names = {"NAME": program.name, "UPPER": program.name.upper()}
    buffers = [line for p in entries for line in _buffers(p)]
    if not program.entry:
        main = fill(
            "executables/runner_cases.c",
            **names,
            INPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.inputs),
            OUTPUT_BYTES=", ".join(str(size_bytes(v)) for v in program.outputs),
            INPUTS=_named(program, "input", len(program.inputs)),
            OUTPUTS=_named(program, "output", len(program.outputs)),
        )
    else:
        upper = program.name.upper()
        buffers += [f"static unsigned char state[{upper}_STATE_BYTES + 128] ALIGNED;"]
        buffers += [line for p in entries for line in _lists(p)]
        main = fill("executables/runner_calls.c", **names, ENTRIES="\n".join(map(_run, entries)))
    return fill(
        "executables/runner.c",
        **names,
        PROTOCOL=CALLS_PROTOCOL if program.entry else PROTOCOL,
        BUFFERS="\n".join(buffers),
        MAIN=main,
    )


def _named(program: LoweredProgram, kind: str, count: int) -> str:
    return ", ".join(f"{local(program)}{kind}_{i}" for i in range(count))


def _buffers(program: LoweredProgram) -> Iterator[str]:
    for kind, values in (("input", program.inputs), ("output", program.outputs)):
        for i, value in enumerate(values):
            name, size = f"{local(program)}{kind}_{i}", size_bytes(value)
            yield f"static unsigned char {name}[ROOM({size}) + {SLACK}] ALIGNED;"


def _lists(program: LoweredProgram) -> Iterator[str]:
    """The places and sizes of an entry's inputs and outputs."""
    for kind, values in (("input", program.inputs), ("output", program.outputs)):
        name = f"{local(program)}{kind}"
        sizes = ", ".join(str(size_bytes(v)) for v in values)
        yield f"static unsigned char *const {name}s[] = {{{_named(program, kind, len(values))}}};"
        yield f"static const long {name}_bytes[] = {{{sizes}}};"


def _run(program: LoweredProgram) -> str:
    at = local(program)
    return (
        f"    {{{program.c_name}_run, {at}inputs, {at}outputs, {at}input_bytes, {at}output_bytes,"
        f" {len(program.inputs)}, {len(program.outputs)}}},"
    )


def freestanding() -> str:
    """The runner's replacement of a C library."""
    return fill("executables/freestanding.c")


def board(target: Target) -> dict[str, bytes]:
    """The runner's replacement of an operating system: system calls and a memory map."""
    if not target.board:
        return {}
    files = ("semihosting.h", f"{target.board}.ld")
    return {file: fill(f"executables/{file}").encode() for file in files}
