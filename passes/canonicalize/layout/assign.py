"""Assigns a layout to each value, so that transposes move the fewest bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from qir.ir.axes import Perm, compose, identity, inverse
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Dequantize, Linear, Reshape, Transpose
from qir.ir.ops.reduce import Reduce
from qir.ir.types import Quant
from qir.passes.canonicalize.layout.permutations import (
    is_free,
    order,
    through_reduce,
    through_reshape,
)

MAX_CARRIED = 64  # regions that move together at most
MAX_VISITS = 8  # a region is looked at again when a neighbour moves, at most this often
FAR = 1 << 62  # bytes: the cost of a layout that cannot be

Cost = tuple[int, int, int]


@dataclass
class Region:
    """Values of one layout, tied together by ops that work in any layout.

    mixed: values that something fixed writes or reads, and something that follows too: in another
    layout than the model's they are transposed once.
    """

    rank: int
    tail: int = 0
    perm: Perm = ()
    mixed: list[Value] = field(default_factory=list)
    entering: list[Op] = field(default_factory=list)
    leaving: list[Op] = field(default_factory=list)
    visits: int = 0


class Layouts:
    """A layout for every value of a graph: perm such that the value is kept transposed by it.

    Ops fall in three kinds. Followers (elementwise, concat, pad, slice, ...) work in any layout:
    they tie operands and result into a region with one layout. Links (transpose, reshape,
    reductions that drop axes) tie two regions: they are free when the layouts fit each other. All
    others, and the graph's inputs and outputs, are fixed. Regions start in the model's layout; one
    at a time takes the layout, among those its neighbours suggest, that transposes fewer bytes
    in all; at a draw fewer inside the network (at its border input and output formats are to meet
    anyway), then as late as possible. Each step lowers the cost, so this ends; it is linear in the
    graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._home: dict[str, str] = {}  # union-find over value names
        self._constants = {op.names[0] for op in graph.ops if isinstance(op, Constant)}
        self._border = {v.name for v in (*graph.inputs, *graph.outputs)}
        for op in graph.ops:
            for value in self._tied(op):
                self._join(op.result.name, value.name)
        self._regions: dict[str, Region] = {}
        self._collect()
        self._settle()

    def of(self, value: Value) -> Perm:
        region = self._regions.get(self._find(value.name))
        return region.perm if region is not None else identity(value.type.rank)

    # -- regions

    def _tied(self, op: Op) -> Iterator[Value]:
        yield from (v for v in op.followers() or () if v.name not in self._constants)

    def _find(self, name: str) -> str:
        root = name
        while (up := self._home.get(root, root)) != root:
            root = up
        while (up := self._home.get(name, name)) != root:
            self._home[name], name = root, up
        return root

    def _join(self, a: str, b: str) -> None:
        self._home[self._find(a)] = self._find(b)

    def _region(self, value: Value) -> Region:
        root = self._find(value.name)
        if root not in self._regions:
            rank = value.type.rank
            self._regions[root] = Region(rank, perm=identity(rank))
        return self._regions[root]

    def _collect(self) -> None:
        fixed = {v.name: v for v in (*self.graph.inputs, *self.graph.outputs)}
        free: dict[str, Value] = {}
        for op in self.graph.ops:
            if isinstance(op, Constant):
                continue
            if is_link(op):
                source = op.operands[0]
                if source.name not in self._constants:
                    self._region(source).leaving.append(op)
                    free[source.name] = source
                self._region(op.result).entering.append(op)
                free[op.result.name] = op.result
            elif op.followers() is not None:
                region = self._region(op.result)
                region.tail = max(region.tail, op.last_axes)
                free.update((v.name, v) for v in (*self._tied(op), op.result))
                fixed.update((v.name, v) for v in op.broadcast_operands())
            else:
                fixed.update((v.name, v) for v in (*op.operands, *op.results))
        for name, value in free.items():
            if name in fixed and name not in self._constants:
                self._region(value).mixed.append(value)

    # -- costs

    def _cost(self, perms: Mapping[int, Perm]) -> Cost:
        """The cost of the regions in `perms` (by id) and of their links, in those layouts."""
        total = interior = late = 0
        links: dict[int, Op] = {}
        for key, perm in perms.items():
            region = self._by_id[key]
            for value in region.mixed:
                size = self._transposed(value, perm)
                total += size
                interior += 0 if value.name in self._border else size
            links.update((id(op), op) for op in (*region.entering, *region.leaving))
        for op in links.values():
            x, y = op.operands[0], op.result
            before = identity(x.type.rank)
            if x.name not in self._constants:
                before = perms.get(id(source := self._region(x)), source.perm)
            target = self._region(y)
            after = perms.get(id(target), target.perm)
            if not (size := self._link_cost(op, before, after)):
                continue
            total += size
            interior += 0 if x.name in self._border or y.name in self._border else size
            late += size if id(target) in perms else 0
        return total, interior, late

    @staticmethod
    def _transposed(value: Value, perm: Perm) -> int:
        if is_free(value.type.shape, perm):
            return 0
        quant = value.type.elem
        if isinstance(quant, Quant) and not quant.is_per_tensor:
            return FAR
        return size_bytes(value)

    def _link_cost(self, op: Op, source: Perm, target: Perm) -> int:
        """Bytes transposed between x in layout `source` and y in layout `target`."""
        x, y = op.operands[0], op.result
        if x.name in self._constants:
            return 0
        natural = through(op, source)
        if natural is not None:
            fits = order(y.type.shape, natural) == order(y.type.shape, target)
            return 0 if fits else size_bytes(y)
        cost = 0 if is_free(x.type.shape, source) or self.is_absorbed(op) else size_bytes(x)
        return cost + (0 if is_free(y.type.shape, target) else size_bytes(y))

    def is_absorbed(self, op: Op) -> bool:
        """Whether a flattening is read by linears of constant weights alone, elementwise ops
        between: their columns take up any order.
        """
        if not isinstance(op, Reshape):
            return False
        value = op.result
        while True:
            readers = self.graph.users.get(value.name, ())
            if len(readers) != 1 or not readers[0].is_pointwise:
                break
            value = readers[0].result
        return bool(readers) and all(
            isinstance(r, Linear) and r.x == value and self._is_stored(r.w) for r in readers
        )

    def _is_stored(self, value: Value) -> bool:
        """Whether `value` is a constant, or one dequantized."""
        op = self.graph.producers.get(value.name)
        return isinstance(op, Constant) or (
            isinstance(op, Dequantize) and op.x.name in self._constants
        )

    # -- the search

    def _settle(self) -> None:
        self._by_id = {id(r): r for r in self._regions.values()}
        queue = deque(r for r in self._regions.values() if r.entering or r.leaving)
        while queue:
            region = queue.popleft()
            if region.visits >= MAX_VISITS:
                continue
            region.visits += 1
            best, cost = region.perm, self._cost({id(region): region.perm})
            for perm in dict.fromkeys(self._candidates(region)):
                if perm != region.perm and (new_cost := self._cost({id(region): perm})) < cost:
                    best, cost = perm, new_cost
            if best != region.perm:
                region.perm = best
                queue.extend(self._neighbours(region))
        for region, perm in self._unsettled():
            self._move_together(region, perm)

    def _unsettled(self) -> Iterator[tuple[Region, Perm]]:
        """Regions at a link that costs something, or that cost themselves, and what would free
        it.
        """
        for op in self.graph.ops:
            if not is_link(op) or op.operands[0].name in self._constants:
                continue
            x, y = self._region(op.operands[0]), self._region(op.result)
            if self._link_cost(op, x.perm, y.perm):
                starts = ((y, through(op, x.perm)), (x, back_through(op, y.perm)))
                yield from ((r, p) for r, p in starts if p is not None and fits(r, p))
        for region in self._regions.values():
            if any(self._transposed(value, region.perm) for value in region.mixed):
                yield region, identity(region.rank)

    def _move_together(self, region: Region, perm: Perm) -> None:
        """Put a region into a layout, and as many of the regions that then follow through links as
        lower the cost most; none, if nothing lowers it.
        """
        perms = {id(region): perm}
        queue = deque([region])
        least, best = (0, 0), dict[int, Perm]()
        while queue and len(perms) <= MAX_CARRIED:
            cost = self._cost(perms)
            before = self._cost({key: self._by_id[key].perm for key in perms})
            change = (cost[0] - before[0], cost[1] - before[1])
            if change < least:
                least, best = change, dict(perms)
            self._carry(queue, perms)
        for key, new in best.items():
            self._by_id[key].perm = new

    def _carry(self, queue: deque[Region], perms: dict[int, Perm]) -> None:
        """Add to `perms` the neighbours of the next region that can follow it."""
        here = queue.popleft()
        perm = perms[id(here)]
        neighbours = [(self._region(op.result), through(op, perm)) for op in here.leaving]
        neighbours += [
            (self._region(op.operands[0]), back_through(op, perm))
            for op in here.entering
            if op.operands[0].name not in self._constants
        ]
        for neighbour, new in neighbours:
            if id(neighbour) in perms or neighbour.mixed or new is None or not fits(neighbour, new):
                continue
            perms[id(neighbour)] = new
            queue.append(neighbour)

    def _neighbours(self, region: Region) -> Iterable[Region]:
        for op in region.entering:
            if op.operands[0].name not in self._constants:
                yield self._region(op.operands[0])
        for op in region.leaving:
            yield self._region(op.result)

    def _candidates(self, region: Region) -> Iterator[Perm]:
        yield from (p for p in self._suggested(region) if p is not None and fits(region, p))

    def _suggested(self, region: Region) -> Iterator[Perm | None]:
        yield identity(region.rank)
        for op in region.entering:
            yield through(op, self.of(op.operands[0]))
        for op in region.leaving:
            yield back_through(op, self.of(op.result))


def size_bytes(value: Value) -> int:
    return value.type.size * value.type.elem.carrier.itemsize


def fits(region: Region, perm: Perm) -> bool:
    """Whether the layout keeps the last axes of the region where its ops need them."""
    fixed = region.rank - region.tail
    return perm[fixed:] == identity(region.rank)[fixed:]


def is_link(op: Op) -> bool:
    """Whether the op ties the layouts of operand and result without making them one."""
    return isinstance(op, (Transpose, Reshape)) or (isinstance(op, Reduce) and not op.keep)


def through(op: Op, perm: Perm) -> Perm | None:
    """The layout in which a link's result falls out of its operand in layout `perm`; None when it
    does not.
    """
    match op:
        case Transpose():
            return compose(inverse(op.perm), perm)
        case Reshape():
            return through_reshape(op.x.type.shape, op.shape, perm)
        case Reduce():
            return through_reduce(op, perm)
        case _:
            return None


def back_through(op: Op, perm: Perm) -> Perm | None:
    """The operand's layout that gives a link's result in layout `perm`; None when there is no one
    such.
    """
    match op:
        case Transpose():
            return compose(op.perm, perm)
        case Reshape():
            return through_reshape(op.shape, op.x.type.shape, perm)
        case _:
            return None
