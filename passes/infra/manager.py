"""Passes and their manager, which verifies, times, records and checks each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar, TypeVar

import numpy as np

from qir.ir.errors import PassError, QirError, VerifyError
from qir.ir.graph import STAGES, Graph
from qir.ir.interpret import interpret
from qir.ir.names import is_word
from qir.ir.op import Value
from qir.ir.types import Array, Float, integer_of
from qir.ir.verify import verify
from qir.passes.infra.options import check_options, pass_text, read_passes

ENTRY_POINTS = "qir.passes"


@dataclass(frozen=True)
class Claim:
    """The guarantee of a pass about its outputs: every bit, reals within a tolerance, or a named
    change.

    `within` bounds max|after - before| / (1 + max|before|) of every output; None when nothing is
    promised.
    """

    text: str
    within: float | None

    def __str__(self) -> str:
        return self.text


KEEPS_BITS = Claim("Keeps: every bit", 0.0)


def keeps_reals(within: float) -> Claim:
    return Claim(f"Keeps: reals within {within:g}", within)


def changes(change: str) -> Claim:
    return Claim(f"Changes: {change}", None)


@dataclass(frozen=True)
class Miss:
    """Why a pattern did not apply, and at which value."""

    why: str
    at: str = ""


@dataclass
class Record:
    """The record of one run of a pass. `divided`: by what the channels of each value were, (C,),
    where it stands for another real now, or the matrix (C, C) that it is to be multiplied by.
    """

    name: str
    claim: Claim
    seconds: float = 0.0
    ops_before: int = 0
    ops_after: int = 0
    rewrites: int = 0
    error: float | None = None  # measured against the claim, when checked
    misses: list[Miss] = field(default_factory=list)
    divided: dict[str, Array] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)  # what a report tells the user
    notes: list[str] = field(default_factory=list)  # what it did where, for the report too


def restored(x: Array, divided: Array) -> Array:
    """Values (..., C) times what their channels were divided by, or by the matrix; of scales (C,)
    before a matrix the matrix of both.
    """
    if divided.ndim < 2:
        return np.asarray(x * divided)
    if x.ndim < 2:
        return np.asarray(x[:, None] * divided, divided.dtype)
    return np.asarray(x @ divided)


def divide(divided: dict[str, Array], more: Mapping[str, Array]) -> None:
    """Note what values are divided by after what they were before."""
    for name, scales in more.items():
        divided[name] = restored(scales, divided[name]) if name in divided else scales


def divisors(records: Iterable[Record]) -> Mapping[str, Array]:
    """By what the channels of each value were divided in all, (C,), or the matrix (C, C) that gives
    them back.
    """
    total: dict[str, Array] = {}
    for record in records:
        divide(total, record.divided)
    return total


@dataclass(frozen=True)
class Pass:
    """A function from graph to graph; options are fields, checked by their annotations. Subclasses
    set `name` and `claim` and give run(). str(pass) is what `parsed` reads.

    stages: those of the graphs that it takes; leaves: that of the graph it gives, when another.
    What a stage promises, verify holds it to (qir.ir.stages).

    The docstring's first line is before -> after.
    """

    name: ClassVar[str] = ""
    claim: ClassVar[Claim] = KEEPS_BITS
    stages: ClassVar[tuple[str, ...]] = STAGES
    leaves: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_options(self, self.name)

    def __str__(self) -> str:
        return pass_text(self, self.name)

    def run(self, graph: Graph, record: Record) -> Graph:
        raise NotImplementedError(type(self).__name__)


PASSES: dict[str, type[Pass]] = {}
P = TypeVar("P", bound=type[Pass])


def register(cls: P) -> P:
    """Make the pass known by its name to `qir opt`, `qir passes` and the case files."""
    if not is_word(cls.name) or PASSES.get(cls.name, cls) is not cls:
        raise PassError(
            f"pass {cls.__name__}: name {cls.name!r} is no word or taken, a word of its own is"
            " needed"
        )
    PASSES[cls.name] = cls
    return cls


def find(name: str) -> type[Pass]:
    """The pass called `name`, ours or one that an installed package registers by entry point."""
    if name not in PASSES:
        for point in entry_points(group=ENTRY_POINTS):
            if point.name == name:
                register(pass_of(point))
    if name not in PASSES:
        names = sorted({*PASSES, *(p.name for p in entry_points(group=ENTRY_POINTS))})
        raise PassError(f"pass {name!r}: not known, one of {', '.join(names)} is needed")
    return PASSES[name]


def pass_of(point: EntryPoint) -> type[Pass]:
    """The pass of an installed package."""
    try:
        cls = point.load()
    except Exception as e:  # another's package may fail in any way
        raise PassError(
            f"pass {point.name}: {point.value} cannot be loaded ({type(e).__name__}: {e}), a"
            " package that imports is needed"
        ) from e
    if not (isinstance(cls, type) and issubclass(cls, Pass) and is_dataclass(cls)):
        raise PassError(
            f"pass {point.name}: {point.value} is {cls!r}, a dataclass derived from Pass is needed"
        )
    return cls


def parsed(source: str) -> tuple[Pass, ...]:
    """The passes that a text lists, as in `fold-pad, rescue-groups(group=32)` (options.py)."""
    return read_passes(source, find)


@dataclass(frozen=True)
class Pipeline:
    """Passes in order, with a name; `stage` is the stage of the resulting graph.

    rounds: how often all of them run at most, until a round changes nothing.
    """

    name: str
    stage: str
    passes: tuple[Pass, ...]
    rounds: int = 1


@dataclass
class Manager:
    """Runs passes one by one; keeps a record of each.

    check: check the claim of every pass on `samples` (default: random ones).
    watch: called before each pass with its name, its place and their number.
    """

    check: bool = False
    samples: Sequence[Array] | None = None
    watch: Callable[[str, int, int], None] | None = None
    records: list[Record] = field(default_factory=list)

    def run(self, graph: Graph, passes: Pipeline | Iterable[Pass]) -> Graph:
        """The graph after all of `passes`.

        Errors: PassError when a pass breaks a rule of the language or its claim; it names the
                passes run so far.
        """
        if not isinstance(passes, Pipeline):
            return self._round(graph, tuple(passes))
        after = self._round(graph, passes.passes)
        for _ in range(1, passes.rounds):
            graph, first = after, len(self.records)
            after = self._round(graph, passes.passes)
            # of passes that had nothing left to do the first record says all
            self.records[first:] = [r for r in self.records[first:] if r.rewrites]
            if after is graph:
                break
        after = after.at_stage(passes.stage)
        verify(after, form=self.check)
        return after

    def _round(self, graph: Graph, passes: Sequence[Pass]) -> Graph:
        for i, one in enumerate(passes):
            if self.watch is not None:
                self.watch(one.name, i, len(passes))
            graph = self._run_one(graph, one)
        return graph

    def _run_one(self, graph: Graph, one: Pass) -> Graph:
        if graph.stage not in one.stages:
            raise PassError(
                f"pass {one.name}: graph @{graph.name} is at stage {graph.stage},"
                f" {' or '.join(one.stages)} is needed",
                hint=self._history() if self.records else None,
            )
        record = Record(one.name, one.claim, ops_before=len(graph.ops))
        start = time.perf_counter()
        after = self._result(graph, one, record)
        record.seconds, record.ops_after = time.perf_counter() - start, len(after.ops)
        self.records.append(record)
        if after is graph:
            record.error = 0.0 if self.check else None
            return graph
        try:
            verify(after, form=False)
        except VerifyError as e:
            raise PassError(e.after(f"pass {one.name}"), hint=self._history()) from e
        if self.check and not record.rewrites and after.canonical() != graph.canonical():
            raise PassError(
                f"pass {one.name}: changes the graph with 0 rewrites on record, each is to be"
                " counted",
                hint=self._history(),
            )
        if self.check and one.claim.within is not None:
            self._check_claim(graph, after, one, record)
        return after

    def _result(self, graph: Graph, one: Pass, record: Record) -> Graph:
        """What the pass gives; what another's pass raises is its error, not ours."""
        try:
            after = one.run(graph, record)
        except QirError:
            raise
        except Exception as e:
            if is_ours(one):
                raise
            raise PassError(raised(one, "", e), hint=self._history()) from e
        if not isinstance(after, Graph):
            raise PassError(
                f"pass {one.name}: returned {after!r} of {type(after).__name__}, a graph is needed"
            )
        if after.stage != (stage := one.leaves or graph.stage):
            raise PassError(
                f"pass {one.name}: left graph @{graph.name} at stage {after.stage}, {stage} is"
                " needed",
                hint=self._history(),
            )
        return after

    def _check_claim(self, before: Graph, after: Graph, one: Pass, record: Record) -> None:
        samples = self.samples if self.samples is not None else sample_inputs(before)
        try:
            record.error = distance(evaluate(before, samples), evaluate(after, samples))
        except QirError as e:
            where = f"pass {one.name}: cannot be checked"
            raise PassError(e.after(where), hint=self._history()) from e
        if not record.error <= (one.claim.within or 0.0):
            raise PassError(
                f"pass {one.name}: outputs differ by {record.error:g}, {one.claim} is claimed",
                hint=self._history(),
            )

    def _history(self) -> str:
        return f"passes run so far: {', '.join(r.name for r in self.records)}"


def is_ours(one: Pass) -> bool:
    return type(one).__module__.startswith("qir.")


def raised(one: Pass, where: str, error: Exception) -> str:
    """What an error of a pass that is not ours is called."""
    return (
        f"pass {one.name}: {where}{type(one).__module__} raised {type(error).__name__}: {error};"
        " a result, or an error of qir, is needed"
    )


def evaluate(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of a graph at any stage: exact for integers, in torch for floats."""
    if graph.stage == "integer" or not any(v.type.is_float for v in graph.values):
        return interpret(graph, inputs)
    from qir.ir.torch_executor import run_float

    return run_float(graph, inputs)


def sample_inputs(graph: Graph, seed: int = 0) -> tuple[Array, ...]:
    """Random inputs: normal floats, integers over the whole storage."""
    rng = np.random.default_rng(seed)
    return tuple(_sample(value, rng) for value in graph.inputs)


def _sample(value: Value, rng: np.random.Generator) -> Array:
    storage = integer_of(value.type.elem)
    if storage is None:
        assert isinstance(value.type.elem, Float)
        return rng.standard_normal(value.type.shape).astype(value.type.elem.carrier)
    low, high, shape = storage.min, storage.max, value.type.shape
    return rng.integers(low, high, shape, endpoint=True).astype(storage.carrier)


def distance(before: Sequence[Array], after: Sequence[Array]) -> float:
    """max|after - before| / (1 + max|before|) over all outputs; infinite when shapes differ, or
    when one has a NaN or infinity that the other has not.
    """
    worst = 0.0 if len(before) == len(after) else float("inf")
    for a, b in zip(before, after, strict=False):
        if a.shape != b.shape:
            return float("inf")
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        differ = ~((wide_a == wide_b) | (np.isnan(wide_a) & np.isnan(wide_b)))
        if np.any(differ):
            size = np.max(np.abs(wide_a), where=np.isfinite(wide_a), initial=0.0)
            error = float(np.max(np.abs(wide_a - wide_b)[differ]) / (1 + size))
            worst = max(worst, error if np.isfinite(error) else float("inf"))
    return worst
