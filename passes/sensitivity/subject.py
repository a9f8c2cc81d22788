"""What is measured: a float graph on a sample under a loss, in chunks that are tasks' arguments."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qir.ir.errors import DataError, PassError
from qir.ir.graph import Graph
from qir.ir.types import Array
from qir.passes.calibrate.ranges import checked, cut, rows_of
from qir.passes.calibrate.state import graph_digest
from qir.passes.infra.tasks import Result, Store, Task, Tell, quiet, run_tasks
from qir.passes.sensitivity.output_loss import Loss
from qir.passes.sensitivity.probe import chunk_size


@dataclass(frozen=True)
class Part:
    """A chunk of the sample: its arrays, their indices in the sample, and its share of it."""

    graph: Graph
    loss: Loss
    arrays: tuple[Array, ...]
    at: Array
    share: float


@dataclass(frozen=True)
class Subject:
    """A float graph, one array of samples for each of its inputs, and the loss.

    Errors: DataError for samples that do not fit the graph; PassError for a loss that cannot be
    sent to another process.
    """

    graph: Graph
    sample: tuple[Array, ...]
    loss: Loss

    def __post_init__(self) -> None:
        checked(self.graph, self.sample, 0)
        if not len(self.sample[0]):
            raise DataError("sensitivity: the sample is empty, at least one is needed")

    @cached_property
    def key(self) -> str:
        """A digest of graph, sample and loss."""
        total = hashlib.sha256(graph_digest(self.graph).encode())
        for x in self.sample:
            total.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
        try:
            total.update(pickle.dumps(self.loss))
        except (pickle.PicklingError, AttributeError, TypeError) as e:
            raise PassError(
                f"sensitivity: the loss cannot be pickled ({e}), one that can is needed",
                hint="define the function at the top level of a module",
            ) from e
        return total.hexdigest()

    def first(self, count: int) -> Subject:
        """On at most `count` samples, a multiple of the graph's batch."""
        batch = rows_of(self.graph.inputs[0])
        size = max(batch, count // batch * batch)
        return Subject(self.graph, cut(self.graph, self.sample, 0, size), self.loss)

    def parts(self) -> list[Part]:
        """The sample in chunks whose size follows from the graph alone, not from the machine."""
        size, count = chunk_size(self.graph), len(self.sample[0])
        return [
            Part(self.graph, self.loss, cut(self.graph, self.sample, i, i + size),
                 np.arange(i, min(i + size, count)), (min(i + size, count) - i) / count)
            for i in range(0, count, size)
        ]  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """Runs tasks on an executor, with a store for their results and a progress callback."""

    executor: Executor | None = None
    store: Store | None = None
    tell: Tell = quiet

    def run(
        self,
        title: str,
        subject: Subject,
        function: Callable[..., Result],
        arguments: Sequence[tuple[str, tuple[object, ...]]],
    ) -> list[Result]:
        """function(*arguments) for each of them; the text beside them is part of their key."""
        tasks = [
            Task(f"{subject.key} {title} {text}", function, function_arguments)
            for text, function_arguments in arguments
        ]
        return run_tasks(title, tasks, self.executor, self.store, self.tell)
