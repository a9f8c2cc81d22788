"""The base of passes that round weights: tasks, and insertion of their results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.infra.layers import check_names, layers_of
from qir.passes.infra.manager import Miss, Pass, Record
from qir.passes.infra.tasks import Processes, Store, Task, Tell, quiet, run_tasks
from qir.passes.quantize.stored_weights import (
    StoredWeights,
    stored_weights,
    with_weights,
)

T = TypeVar("T")
Function = Callable[..., Mapping[str, Array]]


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Base of the passes that choose stored weights by their effect on outputs, on a sample.

    The network is rounded in `waves`, one part after the other; None: each layer, or each block, is
    a wave. The layers of a wave are independent tasks, on activations of the network with earlier
    waves rounded and the weights of this wave as floats. A layer compensates for its own rounding,
    and for the error of its input; no two layers may compensate for the same error.
    """

    stages: ClassVar[tuple[str, ...]] = ("simulated",)

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()
    waves: int | None = None
    executor: Executor | None = field(default=None, compare=False)
    store: Store | None = field(default=None, compare=False)
    tell: Tell = field(default=quiet, compare=False)

    def on(
        self,
        reference: Graph,
        sample: tuple[Array, ...],
        executor: Executor | None = None,
        store: Store | None = None,
        tell: Tell = quiet,
    ) -> RoundWeights:
        """The same pass on a float graph and samples."""
        return replace(self, reference=reference, sample=sample,
                       executor=executor, store=store, tell=tell)  # fmt: skip

    def work(self) -> tuple[Function, tuple[Any, ...]]:
        """The function that rounds a layer or block, and its arguments behind the first."""
        raise NotImplementedError(type(self).__name__)

    def rounded(
        self, graph: Graph, reference: Graph, layers: Sequence[StoredWeights]
    ) -> Iterator[Graph]:
        """The graph after each wave, with new constants for its layers."""
        raise NotImplementedError(type(self).__name__)

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        if self.waves is not None and self.waves < 1:
            raise PassError(f"{self.name}: waves is {self.waves}, 1 or more is needed")
        check_names(graph, self.reference, self.name)  # each missing layer is a Miss below
        results = [stored_weights(graph, self.reference, op) for op in layers_of(graph)]
        layers = [w for w in results if not isinstance(w, Miss)]
        record.rewrites = len(layers)
        record.misses += [w for w in results if isinstance(w, Miss)]
        with nullcontext(self.executor) if self.executor is not None else Processes() as pool:
            for after in replace(self, executor=pool).rounded(graph, self.reference, layers):
                graph = after
        return graph

    def in_waves(self, work: Sequence[T]) -> Sequence[Sequence[T]]:
        """Layers or blocks, in the order of the graph, cut into waves."""
        size = 1 if self.waves is None else max(1, -(-len(work) // self.waves))
        return [work[i : i + size] for i in range(0, len(work), size)]

    def tasks(self, tasks: Sequence[Task], start: int, of: int) -> Sequence[Mapping[str, Array]]:
        """The results of one wave, whose first task is number `start` of the `of` of all waves."""
        tell = lambda title, count, _: self.tell(title, start + count, of)  # noqa: E731
        return run_tasks(self.name, tasks, self.executor, self.store, tell)

    def has_all(self, keys: Sequence[str]) -> bool:
        """Whether the store has the results of all these tasks."""
        return self.store is not None and all(self.store.has(key) for key in keys)

    @property
    def digest(self) -> str:
        """Of the samples, for the keys of tasks."""
        return hashlib.sha256(b"".join(x.tobytes() for x in self.sample)).hexdigest()


def with_results(graph: Graph, results: Iterable[Mapping[str, Array]], by: str) -> Graph:
    """The graph with the constants that tasks found."""
    return with_weights(graph, {name: x for result in results for name, x in result.items()}, by)
