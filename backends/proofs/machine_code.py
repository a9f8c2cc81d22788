"""Proves that the machine code of a program is integer-only, by its instructions.

    python -m qir.backends.proofs.machine_code out.qir

What is read is NAME.o, the object that gets linked, after every optimization. Its core is all that
`NAME_run` reaches: functions that it refers to, or whose addresses lie in data that it refers to
(such as its table of steps), and so on from these.
Every instruction of the core must be known as one on integers (`instructions.py`), and
the core may ask for no symbol but memory functions: so neither a float, nor a division, nor a
library that computes either can hide in it. The rest of the object is listed, not
searched. The border (floats in, floats out) and the pool are objects of their own in the archive.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from qir.backends.proofs.disassembly import Function, Instruction, data_references, functions, tool
from qir.backends.proofs.instructions import SETS, InstructionSet
from qir.backends.targets import find
from qir.backends.toolchain import elf
from qir.ir.errors import QirError, VerifyError, listed
from qir.ir.target import Target

FOREIGN = re.compile(
    r"mem(set|cpy|move|cmp)|clock_gettime|__aeabi_mem\w+|__aeabi_unwind_cpp_pr\d"
    r"|__hexagon_mem\w+|getauxval"
)
"""What a core may ask of its surroundings."""


class InstructionKind(Enum):
    """The kind of an instruction; see `qir.backends.proofs.instructions`."""

    CARRIER = "moves bits of floats"
    FLOAT = "computes with floats"
    DIVISION = "divides"
    INTEGER = "computes with integers"
    UNKNOWN = "is not known to compute with integers only"


FAULTS = (InstructionKind.FLOAT, InstructionKind.DIVISION, InstructionKind.UNKNOWN)


@dataclass(frozen=True)
class Fault:
    """Something in `symbol` that has no place in integer-only code."""

    symbol: str
    what: str
    kind: InstructionKind

    def __str__(self) -> str:
        return f"{self.symbol}: {self.what} {self.kind.value}"


@dataclass(frozen=True)
class Body:
    """One function of the core: its instructions, how many of each dot, which float carriers."""

    symbol: str
    instructions: int
    dots: Mapping[str, int]
    carriers: Mapping[str, int]


@dataclass(frozen=True)
class Findings:
    """The core of an object, function by function, with its faults.

    `unreached`: functions of the object that the core does not refer to.
    """

    bodies: tuple[Body, ...]
    faults: tuple[Fault, ...]
    unreached: tuple[str, ...]

    @property
    def instructions(self) -> int:
        return sum(body.instructions for body in self.bodies)

    @property
    def dots(self) -> Counter[str]:
        return sum((Counter(body.dots) for body in self.bodies), Counter())


def check(content: bytes, target: Target, symbols: Iterable[str]) -> Findings:
    """Check every instruction reachable from `symbols` of an object against the target's lists.

    Errors: LowerError without llvm-objdump; VerifyError for a symbol that the object lacks, or an
    architecture without lists.
    """
    kinds = SETS.get(target.architecture) or SETS.get(target.machine)  # C is for this machine
    if kinds is None:
        machines = ", ".join(SETS)
        raise VerifyError(f"machine code of {target.machine}: no list, one of {machines} has one")
    code = functions(content, target)
    inside = _reached(code, data_references(content), symbols)
    foreign = frozenset(elf.undefined(content))
    return Findings(
        tuple(_body(f, kinds) for f in inside),
        tuple(fault for f in inside for fault in _faults(f, kinds, foreign)),
        tuple(sorted({f.name for f in code} - {f.name for f in inside})),
    )


def prove(manifest: Mapping[str, Any], content: bytes, target: Target | None = None) -> Findings:
    """The findings on an artifact's object, all of them good.

    Errors: VerifyError that names every symbol and instruction that is not integer-only.
    """
    names = [f"{entry['name']}_run" for entry in manifest.get("entries", ())] or ["run"]
    functions_called = [f"{manifest['name']}_{name}" for name in names]
    findings = check(content, target or find(manifest["target"]["name"]), functions_called)
    if findings.faults:
        count = f"{len(findings.faults)} faults in integer-only code, none is allowed"
        raise VerifyError(
            listed(f"machine code of {manifest['name']}: {count}", map(str, findings.faults))
        )
    return findings


def _reached(
    code: Iterable[Function], data: Mapping[str, frozenset[str]], symbols: Iterable[str]
) -> list[Function]:
    """The functions of these names, and all that they or the data they refer to name."""
    by_name: dict[str, list[Function]] = {}
    for function in code:
        for key in (function.name, function.section):
            by_name.setdefault(key, []).append(function)
    todo, reached = list(symbols), set[str]()
    if missing := [s for s in todo if s not in by_name]:
        raise VerifyError(listed("machine code: functions that the object lacks", missing))
    while todo:
        if (name := todo.pop()) not in reached:
            reached.add(name)
            todo += data.get(name, ())
            todo += [r for function in by_name.get(name, ()) for r in function.references]
    return [f for f in code if reached & {f.name, f.section}]


@cache
def _pattern(names: str, suffix: str) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(names.split())})(?:{suffix})")


def kind_of(instruction: Instruction, kinds: InstructionSet) -> InstructionKind:
    """The kind of an instruction; of several operations, the worst."""
    if re.search(kinds.float_operands, instruction.text):
        return InstructionKind.FLOAT
    every = [_kind_of(name, kinds) for name in instruction.name.split("+")]
    return next(
        (k for k in (*FAULTS, InstructionKind.CARRIER) if k in every), InstructionKind.INTEGER
    )


@cache
def _kind_of(name: str, kinds: InstructionSet) -> InstructionKind:
    for kind, names in (
        (InstructionKind.CARRIER, kinds.carriers),
        (InstructionKind.FLOAT, kinds.floats),
        (InstructionKind.DIVISION, kinds.divisions),
        (InstructionKind.INTEGER, kinds.integers),
    ):
        if _pattern(names, kinds.suffix).fullmatch(name):
            return kind
    return InstructionKind.UNKNOWN


def _body(function: Function, kinds: InstructionSet) -> Body:
    carriers = Counter(
        i.name for i in function.instructions if kind_of(i, kinds) is InstructionKind.CARRIER
    )
    return Body(function.name, len(function.instructions), dots(function, kinds), carriers)


def dots(function: Function, kinds: InstructionSet) -> Counter[str]:
    """How many of each dot instruction a function holds."""
    names = (dot_of(i, kinds) for i in function.instructions)
    return Counter(name for name in names if name)


def dot_of(instruction: Instruction, kinds: InstructionSet) -> str | None:
    """The name of the dot that an instruction is."""
    return next((n for n, start in kinds.dots.items() if re.match(start, instruction.text)), None)


def _faults(function: Function, kinds: InstructionSet, foreign: frozenset[str]) -> Iterator[Fault]:
    for instruction in function.instructions:
        if (kind := kind_of(instruction, kinds)) in FAULTS:
            site = f"`{instruction.text}` at {instruction.address:#x}"
            yield Fault(function.name, site, kind)
    for name in sorted(function.references & foreign):
        if not FOREIGN.fullmatch(name):
            yield Fault(function.name, f"`{name}` outside the object", InstructionKind.UNKNOWN)


def summary(findings: Findings) -> Iterator[str]:
    """A readable summary: one line for each function, then the total."""
    for body in findings.bodies:
        notes = [f"{n} {name}" for name, n in body.dots.items()]
        notes += [f"({n} {name})" for name, n in body.carriers.items()]
        yield f"{body.symbol}: {body.instructions} instructions {' '.join(notes)}".rstrip()
    yield f"outside the core: {', '.join(findings.unreached)}"
    total = ", ".join(f"{n} {name}" for name, n in findings.dots.items()) or "none"
    yield (
        f"{findings.instructions} instructions in {len(findings.bodies)} functions, all of them on"
        f" integers; dots: {total}; by {Path(tool()).name}"
    )


def main(arguments: list[str]) -> int:
    """Prove the artifact in the folder that is named; 1 when it cannot be proven."""
    if len(arguments) != 1:
        print("usage: python -m qir.backends.proofs.machine_code FOLDER.qir", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        findings = prove(manifest, (folder / f"{manifest['name']}.o").read_bytes())
    except (QirError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    print("\n".join(summary(findings)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
