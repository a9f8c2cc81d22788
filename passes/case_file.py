"""Case files (.qir): graphs before and after a pass; reading, checking, updating."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import qir.passes.pipelines  # noqa: F401  (makes every pass known by its name)
from qir.ir import data
from qir.ir.errors import ParseError, PassError, QirError
from qir.ir.graph import Graph
from qir.ir.text.parser import parse
from qir.ir.text.printer import blobs, text
from qir.ir.types import Array, Float, integer_of
from qir.ir.verify import verify
from qir.passes.case_data import CaseData
from qir.passes.infra.manager import Miss, Pass, Record, distance, evaluate, parsed, sample_inputs

DIVIDER = re.compile(r"^// ==== ?(?P<name>.*)$", re.MULTILINE)
VERDICT = re.compile(
    r"^// ---- (?P<kind>becomes|stays|error)(?:, because)?:?(?P<text>.*)$", re.MULTILINE
)
HEADER = re.compile(r"^// (?P<key>pass|keeps|sample|reference): *(?P<value>.*)$", re.MULTILINE)
BEFORE = "\n"  # what no case can be called


@dataclass(frozen=True)
class Case:
    """One case of a case file: `before` run through `passes`, and what is expected of it.

    verdict: "becomes" (expected is the graph after), "stays" (expected is part of the reason), or
    "error" (expected is the text of the error). With no passes, reading and verifying is the test.
    """

    file: Path
    name: str
    passes: tuple[Pass, ...]
    keeps: str
    data: CaseData
    before: str
    verdict: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file.name} {self.name.strip()!r}"


def read_cases(file: Path) -> tuple[Case, ...]:
    """All cases of a file; `// pass:` lines, and the `// keeps:`, `// sample:` and `// reference:`
    lines beside them, hold until the next `// pass:`.

    Errors: ParseError for a case without a verdict or of the name of another; PassError for
            passes or options that do not exist.
    """
    cases: list[Case] = []
    passes: tuple[Pass, ...] = ()
    claim, data = "", CaseData()
    for name, part in parts(file.read_text(encoding="utf-8")):
        verdict = VERDICT.search(part)
        headers = HEADER.findall(part[: verdict.start() if verdict else len(part)])
        if any(key == "pass" for key, _ in headers):
            listed = (read_pass(value, file) for key, value in headers if key == "pass")
            passes = tuple(one for line in listed for one in line)
            claim, data = "", CaseData()
        lines = {key: value.strip() for key, value in headers if key in ("sample", "reference")}
        data = replace(data, **lines)
        if fault := data.fault():
            raise ParseError(f"{file.name}: {fault}")
        claim = next((value.strip() for key, value in headers if key == "keeps"), claim)
        if verdict is None:
            if name == BEFORE:
                continue  # what stands before the first case holds for all
            raise ParseError(
                f"{file.name} {name!r}: no verdict, '// ---- becomes' or its like is needed"
            )
        kind, rest = verdict["kind"], part[verdict.end() :].strip("\n")
        expected = f"{rest}\n" if kind == "becomes" else verdict["text"].strip()
        cases.append(Case(file, name, passes, claim, data, part[: verdict.start()], kind, expected))
    if any(not case.name for case in cases):
        raise ParseError(f"{file.name}: a case without a name, '// ==== NAME' is needed")
    counts = Counter(case.name for case in cases)
    if repeats := [name for name, count in counts.items() if count > 1]:
        raise ParseError(
            f"{file.name}: {counts[repeats[0]]} cases are named {repeats[0]!r}, a name for each is"
            " needed"
        )
    return tuple(cases)


def parts(source: str) -> list[tuple[str, str]]:
    """(name, text) of each case, and first, called BEFORE, of what stands before them."""
    dividers = list(DIVIDER.finditer(source))
    starts = [0, *(d.end() for d in dividers)]
    ends = [*(d.start() for d in dividers), len(source)]
    names = [BEFORE, *(d["name"].strip() for d in dividers)]
    return [(n, source[s:e]) for n, s, e in zip(names, starts, ends, strict=True)]


def read_pass(source: str, file: Path) -> tuple[Pass, ...]:
    """The passes of a `// pass:` line."""
    try:
        return parsed(source)
    except PassError as e:
        raise PassError(e.after(file.name), e.hint) from e


def check(case: Case) -> None:
    """Hold a case against all laws: it parses back, verifies, becomes what is expected, and keeps
    what its pass claims on random and on extreme inputs.

    Errors: PassError that says what differs.
    """
    if case.verdict == "error":
        return check_error(case)
    before = read_graph(case.before)
    after, misses = run(case, before)
    hold_claims(case, before, after)
    if case.verdict == "stays":
        return check_stays(case, before, after, misses)
    expected = read_graph(case.expected)
    if not case.data.are_equal(after.canonical(), expected.canonical()):
        raise PassError(
            (f"{case}: became", *lines(after), "expected is", *case.expected.split("\n"))
        )
    return None


def read_graph(source: str) -> Graph:
    """Parse and verify; what is printed must parse to the same graph."""
    graph = parse(source)
    verify(graph)
    reparsed = parse(text(graph), blobs(graph))
    if reparsed != graph:
        raise PassError(
            f"graph @{graph.name}: printed and parsed it is another, the same is needed"
        )
    return graph


def run(case: Case, before: Graph) -> tuple[Graph, list[Miss]]:
    """The graph after the passes of a case, and all refusals."""
    graph, misses = before, []
    for one in case.passes:
        record = Record(one.name, one.claim)
        graph = case.data.on(one, before).run(graph, record)
        verify(graph, form=False)
        misses += record.misses
    return graph, misses


def hold_claims(case: Case, before: Graph, after: Graph) -> None:
    """Check that the passes claim what the file says, and that the claims hold."""
    claims = [one.claim for one in case.passes]
    if case.keeps and [str(c).partition(": ")[2] for c in claims] != [case.keeps] * len(claims):
        raise PassError(
            f"{case}: the passes claim {', '.join(map(str, claims))}, {case.keeps} is written"
        )
    if any(c.within is None for c in claims):
        return
    within = sum(c.within or 0.0 for c in claims)
    for kind, inputs in samples(before):
        error = distance(evaluate(before, inputs), evaluate(after, inputs))
        if not error <= within:
            raise PassError(
                f"{case}: outputs differ by {error:g} on {kind} inputs, {within:g} is claimed"
            )


def samples(graph: Graph) -> list[tuple[str, tuple[Array, ...]]]:
    """Random inputs, and those at the ends of what they can hold."""
    cases = [(f"random ({seed})", sample_inputs(graph, seed)) for seed in range(3)]
    for kind, of_float, end in (("least", -64.0, 0), ("greatest", 64.0, 1), ("zero", 0.0, None)):
        arrays = []
        for value in graph.inputs:
            storage = integer_of(value.type.elem)
            if storage is None:
                assert isinstance(value.type.elem, Float)
                fill, dtype = of_float, value.type.elem.carrier
            else:
                fill = 0 if end is None else storage.max if end else storage.min
                dtype = storage.carrier
            arrays.append(np.full(value.type.shape, fill, dtype))
        cases.append((kind, tuple(arrays)))
    return cases


def check_stays(case: Case, before: Graph, after: Graph, misses: list[Miss]) -> None:
    if after.canonical() != before.canonical():
        raise PassError((f"{case}: became", *lines(after), "to stay is expected"))
    if case.expected and not any(case.expected in m.why for m in misses):
        reasons = "; ".join(dict.fromkeys(m.why for m in misses)) or "nothing"
        raise PassError(f"{case}: the pass said {reasons}, {case.expected!r} is expected")


def check_error(case: Case) -> None:
    """The error of parsing, verifying or running must say what is expected."""
    try:
        run(case, read_graph(case.before))
    except QirError as e:
        if case.expected and case.expected in str(e):
            return
        message = " ".join(str(e).split("\n"))
        raise PassError(f"{case}: the error is {message}, {case.expected!r} is expected") from e
    raise PassError(f"{case}: no error, {case.expected!r} is expected")


def golden(graph: Graph) -> str:
    """The graph as text with every constant written out."""
    inline = data.INLINE
    try:
        data.INLINE = 1 << 62
        return text(graph, locs=False)
    finally:
        data.INLINE = inline


def lines(graph: Graph) -> list[str]:
    return golden(graph).rstrip().split("\n")


def update(file: Path) -> None:
    """Rewrite what stands after each "becomes" of a case file to what the passes give now."""
    cases = {case.name: case for case in read_cases(file)}
    sections: list[str] = []
    for name, part in parts(file.read_text(encoding="utf-8")):
        sections += [] if name == BEFORE else [f"// ==== {name}"]
        case = cases.get(name)
        if case is not None and case.verdict == "becomes":
            after = golden(run(case, read_graph(case.before))[0])
            part = f"{case.before}// ---- becomes\n{after}"
        sections.append(part.rstrip("\n") if name == BEFORE else part.strip("\n"))
    file.write_text("\n".join(w for w in sections if w) + "\n", encoding="utf-8")
