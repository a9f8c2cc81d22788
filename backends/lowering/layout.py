"""Decides where every value lies, so that as few elements as possible are moved.

A concatenation's operands are written straight into their slices; a padded convolution's input is
written into the inside of a larger plane whose frame holds the zero point; reshapes and slices read
where their operand lies; a sum may be written over its residual. What a layout cannot give is left
to a copy: lower.py compares and adds it, so a layout is never wrong, only slower.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from qir.backends.kernels.plane import check_indices
from qir.backends.lowering.fuse import Fusion, constants
from qir.backends.lowering.in_place import VIEWS, overwritten, written_in_place
from qir.backends.lowering.place import Place
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Conv, Pad, PadMode, Reshape, Slice, Transpose
from qir.ir.states import caller_inputs, caller_outputs, state_inputs
from qir.ir.types import Quant

Sides = tuple[int, int, int, int]
NO_HALO: Sides = (0, 0, 0, 0)
INPUT, OUTPUT, STATE, CONSTANT, BUFFER = "input", "output", "state", "constant", "buffer"


@dataclass(frozen=True)
class Root:
    """A piece of memory: an input, output, state or constant of the program, or a buffer of the
    workspace.

    `size` counts elements. With a `fill`, `outer` is all of it and `inner` the part that values
    occupy; what is around that part holds `fill`.
    Errors: ValueError for more elements than kernels can index.
    """

    name: str
    kind: str
    dtype: str
    size: int
    index: int = 0
    fill: int | None = None
    outer: Place | None = None
    inner: Place | None = None

    def __post_init__(self) -> None:
        check_indices(f"{self.name}: elements of {self.dtype}", self.size)


@dataclass
class Layout:
    """`places`: where each value lies; `roots`: the memory they lie in, by name."""

    places: dict[str, Place] = field(default_factory=dict)
    roots: dict[str, Root] = field(default_factory=dict)


def halo_of(op: Op, value: Value) -> Sides:
    """(top, left, bottom, right) of zero points that `op` reads around `value`."""
    return op.pad if isinstance(op, Conv) and op.x == value else NO_HALO


def zero_of(value: Value) -> int:
    """The stored integer of 0."""
    q = value.type.elem
    return int(q.zero_point.array) if isinstance(q, Quant) and q.is_per_tensor else 0


def carrier(value: Value) -> str:
    """The name of the NumPy type a value is stored in."""
    return str(value.type.elem.carrier)


def interior(op: Pad, place: Place) -> Place:
    """The part of a padded result's memory that its operand fills."""
    return place.sliced(op.before, op.x.type.shape, tuple(b + 1 for b in op.between))


def part(op: Concat, at: int, place: Place) -> Place:
    """The part of a concatenation's memory that operand `at` fills."""
    start = [0] * len(place.shape)
    start[op.axis] = sum(x.type.shape[op.axis] for x in op.xs[:at])
    return place.sliced(start, op.xs[at].type.shape)


def through(op: Op, place: Place) -> Place | None:
    """Where the result of `op` lies when it is its operand's memory; None when only a copy can."""
    match op:
        case Reshape():
            return place.reshaped(op.result.type.shape)
        case Slice():
            return place.sliced(op.start, op.result.type.shape, op.step)
        case Transpose():
            return place.permuted(op.perm)
    return None


def ports(graph: Graph) -> dict[str, tuple[str, int]]:
    """The kind and number of the memory, given by the caller, of inputs and outputs by name."""
    outputs = reversed([*enumerate(caller_outputs(graph))])  # of a value twice, its first number
    return {
        **{value.name: (OUTPUT, i) for i, (value, _) in outputs},
        **{value.name: (STATE, i) for i, value in enumerate(state_inputs(graph))},
        **{value.name: (INPUT, i) for i, value in enumerate(caller_inputs(graph))},
    }


def lay_out(graph: Graph, fusions: Sequence[Fusion], in_place: Collection[str] = ()) -> Layout:
    """The place of every value that a kernel reads or writes.

    `in_place`: the results that may be written over their residual.
    """
    return _Placer(graph, fusions, in_place).run()


class _Placer:
    def __init__(self, graph: Graph, fusions: Sequence[Fusion], in_place: Collection[str]) -> None:
        self.graph, self.fusions, self.in_place = graph, fusions, in_place
        self.layout = Layout()
        self.constants = constants(graph)
        self.outputs = {v.name for v in graph.outputs}
        self.ports = ports(graph)
        self.makers = {v.name: g.anchor for g in fusions for v in g.results}
        self.readers: dict[str, list[Op]] = {}
        self.halo: dict[str, Sides] = {}
        for fusion in fusions:
            for value in fusion.operands:
                self.readers.setdefault(value.name, []).append(fusion.anchor)
                self._grow(value, halo_of(fusion.anchor, value))
        self.over: dict[str, Value] = {}  # result -> the value it is written over
        self.inside: dict[str, tuple[Op, int]] = {}  # value -> the op whose result holds it

    def run(self) -> Layout:
        for fusion in self.fusions:
            self._move_operands(fusion.anchor)
        for at in reversed(range(len(self.fusions))):  # the last first: its frame reaches the first
            self._overwrite(at)
        self.over.update(written_in_place(self.graph, self.fusions))
        for value in self.graph.inputs:
            self._place(value)
        for fusion in self.fusions:
            for value in (*fusion.operands, *fusion.results):
                self._place(value)
        for value in self.graph.outputs:
            self._place(value)
        return self.layout

    def _grow(self, value: Value, halo: Sides) -> None:
        top, left, bottom, right = map(max, self.halo.get(value.name, NO_HALO), halo)
        self.halo[value.name] = (top, left, bottom, right)

    def _move_operands(self, op: Op) -> None:
        """Have the operands of a concatenation or padding written where the result lies."""
        match op:
            case Concat():
                for at, x in enumerate(op.xs):
                    halo = self.halo[x.name]
                    fits = halo == NO_HALO or (op.axis == 3 and x.type.rank == 4)
                    if fits and op.xs.count(x) == 1 and self._may_move(x, op.result):
                        self.inside[x.name] = (op, at)
                        self._grow(op.result, halo)
            case Pad() if op.mode is PadMode.CONSTANT and op.x.type.rank <= 4:
                if self.halo[op.x.name] == NO_HALO and self._may_move(op.x, op.result):
                    self.inside[op.x.name] = (op, 0)
            case Reshape() if op.result.name in self.outputs:
                if self._may_move(op.x, op.result):
                    self.inside[op.x.name] = (op, 0)

    def _overwrite(self, at: int) -> None:
        """Have a sum written over its residual, in one frame that serves the readers of both."""
        new = self.fusions[at].result
        fixed = self.inside.keys() | self.outputs
        old = overwritten(at, self.fusions, self.makers, self.readers, fixed)
        halo = self.halo.get(new.name, NO_HALO)
        if old is None or new.name not in self.in_place:
            return
        if zero_of(old) == zero_of(new) or halo == self.halo[old.name] == NO_HALO:
            self.over[new.name] = old
            self._grow(old, halo)

    def _may_move(self, x: Value, into: Value) -> bool:
        """Whether a kernel writes `x`, its place is free, and it is not read from an output."""
        maker = self.makers.get(x.name)
        if maker is None or x.name in self.inside or x.name in self.outputs:
            return False
        if into.name in self.outputs and len(self.readers[x.name]) > 1:
            return False
        return not isinstance(maker, (*VIEWS, Pad))

    def _place(self, value: Value) -> Place:
        place = self.layout.places.get(value.name)
        if place is None:
            place = self.layout.places[value.name] = (
                self._over(value)
                or self._inside(value)
                or self._alias(value)
                or self._own_place(value)
            )
        return place

    def _over(self, value: Value) -> Place | None:
        old = self.over.get(value.name)
        return None if old is None else self._place(old)

    def _inside(self, value: Value) -> Place | None:
        """Its part of the memory of the op it is an operand of, where a kernel can write it so."""
        if value.name not in self.inside:
            return None
        op, at = self.inside[value.name]
        outer = self._place(op.result)
        match op:
            case Concat():
                place: Place | None = part(op, at, outer)
            case Pad():
                place = interior(op, outer)
            case _:
                place = outer.reshaped(value.type.shape)
        return None if place is None or place.plane() is None else place

    def _alias(self, value: Value) -> Place | None:
        """The operand's own memory, where every reader can use it as it lies."""
        maker = self.makers.get(value.name)
        if (
            not isinstance(maker, VIEWS)
            or value.name in self.outputs
            or self.halo.get(value.name, NO_HALO) != NO_HALO
        ):
            return None
        place = through(maker, self._place(maker.operands[0]))
        return None if place is None or place.plane() is None else place

    def _own_place(self, value: Value) -> Place:
        halo = self.halo.get(value.name, NO_HALO)
        if value.name in self.constants:
            return self._packed(value, CONSTANT)
        if halo != NO_HALO:
            return self._framed(value, halo)
        kind, index = self.ports.get(value.name, (BUFFER, 0))
        if kind == OUTPUT and self.readers.get(value.name):
            return self._packed(value, BUFFER)
        return self._packed(value, kind, index)

    def _packed(self, value: Value, kind: str, index: int = 0) -> Place:
        place = Place.packed(f"%{value.name}", carrier(value), value.type.shape)
        self._root(value, kind, index, place, place)
        return place

    def _framed(self, value: Value, halo: Sides) -> Place:
        """Inside a larger plane of zero points."""
        n, h, w, c = value.type.shape
        top, left, bottom, right = halo
        outer = Place.packed(
            f"%{value.name}", carrier(value), (n, top + h + bottom, left + w + right, c)
        )
        inner = outer.sliced((0, top, left, 0), value.type.shape)
        self._root(value, BUFFER, 0, outer, inner)
        return inner

    def _root(self, value: Value, kind: str, index: int, outer: Place, inner: Place) -> None:
        maker = self.makers.get(value.name)
        if isinstance(maker, Pad) and maker.mode is PadMode.CONSTANT:
            inner = interior(maker, inner)
        fill = None if inner.is_same(outer) else zero_of(value)
        self.layout.roots[outer.root] = Root(
            outer.root, kind, outer.dtype, max(outer.size, 1), index, fill, outer, inner
        )
