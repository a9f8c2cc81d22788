"""Integer graph -> program: fusions of ops become kernel calls on planned memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qir.backends.kernels import SLACK
from qir.backends.kernels.dots import scales_rows
from qir.backends.kernels.kernel import RESULTS, Code, vector_bytes
from qir.backends.kernels.plane import BYTES
from qir.backends.lowering import memory
from qir.backends.lowering.choose.table import choose
from qir.backends.lowering.coded import with_codes
from qir.backends.lowering.context import Call, Context, NoKernel
from qir.backends.lowering.fuse import Fusion, constants, fuse, grouped, layers
from qir.backends.lowering.gathers import with_flat_gathers
from qir.backends.lowering.in_place import writes_once
from qir.backends.lowering.layout import (
    BUFFER,
    CONSTANT,
    INPUT,
    OUTPUT,
    STATE,
    Layout,
    Root,
    carrier,
    lay_out,
    ports,
)
from qir.backends.lowering.moves import copied, framed, moves
from qir.backends.lowering.place import Place
from qir.backends.lowering.program import (
    WEIGHTS,
    WORKSPACE,
    Address,
    Argument,
    LoweredProgram,
    Step,
)
from qir.backends.lowering.schedule import scheduled
from qir.backends.lowering.shared import Shared
from qir.ir.errors import LowerError, listed
from qir.ir.graph import Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import WriteRows
from qir.ir.ranges import value_bounds
from qir.ir.states import caller_inputs, caller_outputs, limits, state_inputs
from qir.ir.target import Target


def lower(
    graph: Graph, target: Target, name: str | None = None, shared: Shared | None = None
) -> LoweredProgram:
    """The program of an integer graph on `target`.

    `shared`: with other programs of the artifact; its constants and kernels are added there, and
    the program has no weights of its own.
    Errors: LowerError that lists every op the target has no integer kernel for, and why.
    """
    if graph.stage != "integer":
        raise LowerError(
            f"graph @{graph.name}: stage is {graph.stage}, integer is needed",
            "run the passes to-integer first",
        )
    graph = with_flat_gathers(graph.without_dead_code())
    fusions = fuse(graph, scales_rows(target.traits))
    if target.is_hosted and vector_bytes(target.traits):
        fusions = with_codes(graph, fusions)
    context = Context(
        target, {}, constants(graph), value_bounds(graph),
        grouped=grouped(graph), layers=layers(fusions),
    )  # fmt: skip
    sums = {g.result.name for g in fusions if g.residual is not None and not target.is_hosted}
    while True:
        layout = _laid_out(graph, fusions, sums)
        external = frozenset(r.name for r in layout.roots.values() if r.kind in (INPUT, OUTPUT))
        layout_context = replace(context, places=layout.places, external=external, calls={})
        blocks = shared or Shared.of([graph], target.alignment)
        lowering = _Lowering(graph, layout_context, layout, name or graph.name, blocks)
        program = lowering.run(fusions)
        if not lowering.refused:
            blocks.symbols.update(lowering.symbols)
            _check_memory(program, blocks.weights.size, target)
            return program if shared else replace(program, weights=blocks.weights.blob)
        sums -= lowering.refused


def _laid_out(graph: Graph, fusions: Sequence[Fusion], in_place: Collection[str]) -> Layout:
    try:
        return lay_out(graph, fusions, in_place)
    except ValueError as e:
        raise LowerError(
            f"graph @{graph.name}: {e}", "a smaller batch, or the model cut in two, may fit"
        ) from e


def _check_memory(program: LoweredProgram, weights: int, target: Target) -> None:
    """Errors: LowerError for more memory than the target's pointers reach."""
    for role, size in (
        ("weights", weights),
        ("workspace", program.workspace_bytes),
        ("state", program.state_bytes),
    ):
        if size >= 1 << (target.pointer_bits - 1):
            raise LowerError(
                f"program {program.name}: {role} of {size} bytes, fewer than"
                f" 2**{target.pointer_bits - 1} are needed on {target}"
            )


@dataclass
class _Pending:
    """A call with its place in the order of steps."""

    call: Call
    ops: tuple[Op, ...]
    title: str


class _Lowering:
    def __init__(
        self, graph: Graph, context: Context, layout: Layout, name: str, shared: Shared
    ) -> None:
        self.graph, self.context, self.layout, self.name = graph, context, layout, name
        self.shared, self.weights = shared, shared.weights
        self.pending: list[_Pending] = []
        self.framed: set[str] = set()
        self.faults: list[str] = []
        self.refused: set[str] = set()  # results that cannot lie where their residual does
        self.symbols = dict(shared.symbols)

    def run(self, fusions: tuple[Fusion, ...]) -> LoweredProgram:
        for value in self.graph.inputs:
            self._try(f"input {value}", partial(self._enter, value))
        for fusion in fusions:
            where = f" ({fusion.ops[-1].loc.source})" if fusion.ops[-1].loc.source else ""
            self._try(f"{fusion}{where}", partial(self._lower, fusion))
        for index, (value, _) in enumerate(caller_outputs(self.graph)):
            self._try(f"output {value}", partial(self._leave, index, value))
        self._copy_states()
        if self.faults:
            count, target = len(self.faults), self.context.target
            head = f"graph @{self.graph.name}: {count} ops have no kernel on {target}"
            raise LowerError(listed(head, self.faults))
        return self._finish()

    def _try(self, title: str, do: Callable[[], None]) -> None:
        """Run one step; the reason of a failure is collected for the error at the end."""
        try:
            do()
        except (NoKernel, ValueError) as e:  # kernels refuse a specification with a ValueError
            self.faults.append(f"{title}: {e}")

    # -- steps

    def _enter(self, value: Value) -> None:
        """Copy an input that must lie elsewhere than in the caller's memory."""
        place = self.context.place(value)
        kind, index = ports(self.graph)[value.name]
        if self.layout.roots[place.root].kind != kind:
            self._copy(self._external(value, kind, index), place, (), f"{kind} {value}")

    def _leave(self, index: int, value: Value) -> None:
        """Copy an output that does not lie in the caller's memory."""
        place = self.context.place(value)
        root = self.layout.roots[place.root]
        is_there = root.kind == OUTPUT and root.index == index
        if not (is_there and place.is_packed and place.offset == 0):
            self._copy(place, self._external(value, OUTPUT, index), (), f"output {value}")

    def _copy_states(self) -> None:
        """Copy the next content of each state that was not written in place, at the end: nothing
        reads the old one any more, but the copies themselves, which then go through a buffer.
        """
        after = {v.name: v for v in self.graph.outputs}
        pending = []
        for index, (state, (_, name)) in enumerate(
            zip(state_inputs(self.graph), self.graph.states, strict=True)
        ):
            value = after[name]
            place, title = self.context.place(value), f"state {state}"
            root = self.layout.roots[place.root]
            if root.kind != STATE:
                pending.append((place, state, index, title))
            elif root.index != index or not place.is_packed:
                between = self._scratch(value)
                self._try(title, partial(self._copy, place, between, (), title))
                pending.append((between, state, index, title))
        for place, state, index, title in pending:
            target = self._external(state, STATE, index)
            self._try(title, partial(self._copy, place, target, (), title))

    def _external(self, value: Value, kind: str, index: int) -> Place:
        place = Place.packed(f"{kind} {index}", carrier(value), value.type.shape)
        self.layout.roots[place.root] = Root(
            place.root, kind, place.dtype, max(place.size, 1), index
        )
        return place

    def _scratch(self, value: Value) -> Place:
        """A buffer of its own for a packed copy of `value`."""
        name = f"%{value.name}.copy{len(self.layout.roots)}"
        place = Place.packed(name, carrier(value), value.type.shape)
        self.layout.roots[name] = Root(name, BUFFER, place.dtype, place.size)
        return place

    def _lower(self, fusion: Fusion) -> None:
        copies = moves(fusion.anchor, self.context.place, self._scratch)
        if copies is None:
            if isinstance(fusion.anchor, WriteRows):
                self._keep_rows(fusion.anchor)
            call = choose(fusion, self.context)
            residual = call.places.get("residual")
            if residual == call.places["y"] and not writes_once(call.kernel.code):
                self.refused.add(fusion.result.name)
            self._add(call, fusion.ops, str(fusion))
            return
        for x, y in copies:
            if not x.is_same(y):
                self._copy(x, y, fusion.ops, str(fusion))
            else:
                self._frame(y)

    def _keep_rows(self, op: WriteRows) -> None:
        """The rows that a cache keeps are copied where its new rows lie elsewhere."""
        cache, y = self.context.place(op.cache), self.context.place(op.result)
        if not cache.is_same(y):
            self._copy(cache, y, (), f"rows kept in {op.result}")

    def _copy(self, x: Place, y: Place, ops: tuple[Op, ...], title: str) -> None:
        self._add(copied(x, y, self.context), ops, title)

    def _add(self, call: Call, ops: tuple[Op, ...], title: str) -> None:
        for name in RESULTS:
            place = call.places.get(name)
            if place is not None:
                self._frame(place)
        about = f": {call.about}" if call.about else ""
        self.pending.append(_Pending(call, ops, title + about))

    def _frame(self, place: Place) -> None:
        """Before the first write into a root with a frame, fill the frame."""
        root = self.layout.roots[place.root]
        if root.fill is None or root.name in self.framed:
            return
        self.framed.add(root.name)
        self._add(framed(root, self.context), (), f"frame of {root.name} = {root.fill}")

    # -- memory

    def _finish(self) -> LoweredProgram:
        calls = [p.call for p in self.pending]
        schedule = scheduled(calls, self.layout.roots, self.context.target)
        buffers = schedule.buffers
        offsets = {b.name: b.offset for b in buffers}
        steps = tuple(
            replace(
                self._step(self.pending[i], offsets), job=number, branch=schedule.branches.get(i)
            )
            for number, job in enumerate(schedule.jobs)
            for i in job
        )
        plan_bytes = max((b.offset + memory.aligned(b.size_bytes) for b in buffers), default=0)
        lifetimes = [memory.Lifetime(b.name, b.size_bytes, b.first, b.last) for b in buffers]
        slack = SLACK if buffers else 0
        outputs = caller_outputs(self.graph)
        symbols = {step.symbol for step in steps}
        return LoweredProgram(
            self.name, caller_inputs(self.graph), tuple(v for v, _ in outputs),
            tuple(name for _, name in outputs), steps, buffers,
            {symbol: code for code, symbol in self.symbols.items() if symbol in symbols},
            b"", plan_bytes + slack, memory.max_live(lifetimes) + slack,
            states=self.shared.states, state_bytes=self.shared.state_bytes,
            limits=limits(self.graph),
        )  # fmt: skip

    def _step(self, pending: _Pending, offsets: Mapping[str, int]) -> Step:
        call = pending.call
        code = call.kernel.code
        symbol = self.symbols.setdefault(code, f"{_kind(code)}{len(self.symbols)}")
        arguments = tuple(self._arguments(call, offsets))
        sizes = {name: len(block) for name, block in call.kernel.blocks.items()}
        weight_bytes = sum((sizes | {n: b for n, b in call.reads.items() if n in sizes}).values())
        places = {n: p.size * BYTES[p.dtype] for n, p in call.places.items() if p}
        total_bytes = (
            sum((places | {n: b for n, b in call.reads.items() if n in places}).values())
            + weight_bytes
        )
        names = tuple(op.names[0] for op in pending.ops)
        loc = Loc.merged(*(op.loc for op in pending.ops))
        return Step(
            symbol, pending.title, arguments, code.units, names, loc,
            call.macs, total_bytes, weight_bytes,
        )  # fmt: skip

    def _arguments(self, call: Call, offsets: Mapping[str, int]) -> Iterator[Argument]:
        for name, place in call.places.items():
            if place is None:
                block = call.kernel.blocks[name]
                address = Address(WEIGHTS, self.weights.add(block))
                yield Argument(name, address, f"{len(block)} bytes")
                continue
            text = f"{place.dtype}[{'x'.join(map(str, place.shape))}] of {place.root}"
            yield Argument(name, self._address(place, offsets), text, place.view)

    def _address(self, place: Place, offsets: Mapping[str, int]) -> Address:
        root = self.layout.roots[place.root]
        at = place.offset * BYTES[place.dtype]
        if root.kind == BUFFER:
            return Address(WORKSPACE, offsets[root.name] + at)
        if root.kind == STATE:
            name = state_inputs(self.graph)[root.index].name
            return Address(STATE, self.shared.offset(name) + at)
        if root.kind == CONSTANT:
            array = self.context.constants[root.name.removeprefix("%")].value.array
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            return Address(WEIGHTS, self.weights.add(little.tobytes() + bytes(SLACK)) + at)
        return Address(root.kind, at, root.index)


def _kind(code: Code) -> str:
    """The kind of a code, in one lower-case word: DenseCode -> dense."""
    return type(code).__name__.removesuffix("Code").lower()
