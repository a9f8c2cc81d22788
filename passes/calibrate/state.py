"""State of an interrupted calibration: observations so far, of which graph and data."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qir.ir.errors import DataError
from qir.ir.graph import Graph
from qir.ir.text.file import write_whole
from qir.ir.text.printer import text
from qir.passes.calibrate.observers import Histogram, Observation

MAGIC = b"qir calibration 2\n"


@dataclass
class State:
    """Observations of the first `samples` samples of the data, whose rolling digest is `data`.

    `chunk` is how many samples were fed at a time; digests are taken chunk by chunk.
    """

    graph: str
    chunk: int
    histograms: bool
    samples: int = 0
    data: str = ""
    observations: dict[str, Observation] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the state, completely or not at all."""
        names = list(self.observations)
        head = {
            "graph": self.graph, "chunk": self.chunk, "histograms": self.histograms,
            "samples": self.samples, "data": self.data, "names": names,
        }  # fmt: skip
        arrays = {
            "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
            "counts": np.array([o.count for o in self.observations.values()], np.int64),
            "ends": np.array(
                [(o.low, o.high, o.least_top) for o in self.observations.values()], np.float64
            ),
        }
        for i, o in enumerate(self.observations.values()):
            if o.histogram is not None and o.histogram.exponent is not None:
                arrays[f"h{i}"] = np.append(o.histogram.counts, o.histogram.exponent)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        body = buffer.getvalue()
        write_whole(path, MAGIC + hashlib.sha256(body).digest() + body)

    @staticmethod
    def load(path: Path) -> State:
        """The state in the file; DataError when it is damaged or of another version."""
        try:
            content = path.read_bytes()
        except OSError as e:
            raise DataError(
                f"calibration state {path}: cannot be read ({e.strerror}), read access is needed"
            ) from e
        size = len(MAGIC)
        if content[:size] != MAGIC:
            raise DataError(
                f"calibration state {path}: starts with {content[:size]!r}, {MAGIC!r} is needed"
            )
        body = content[size + 32 :]
        if hashlib.sha256(body).digest() != content[size : size + 32]:
            raise DataError(
                f"calibration state {path}: its checksum is wrong, an undamaged file is needed",
                hint="delete the file to start again",
            )
        with np.load(io.BytesIO(body)) as z:
            head = json.loads(z["head"].tobytes())
            observations = {}
            for i, name in enumerate(head.pop("names")):
                histogram = None
                if head["histograms"]:
                    histogram = (
                        Histogram(z[f"h{i}"][:-1], int(z[f"h{i}"][-1])) if f"h{i}" in z else None
                    )
                low, high, least_top = z["ends"][i].tolist()
                observations[name] = Observation(
                    int(z["counts"][i]), low, high, histogram, least_top
                )
        return State(**head, observations=observations)


def graph_digest(graph: Graph) -> str:
    """SHA-256 of the graph's text, constants included by their own hashes."""
    return hashlib.sha256(text(graph, locs=False).encode()).hexdigest()


def resumed(path: Path | None, initial: State) -> State:
    """The state in the file when it continues `initial`; `initial` when there is no file.

    Errors: DataError when the file is of another graph or another way to observe.
    """
    if path is None or not path.exists():
        return initial
    old = State.load(path)
    for quantity, actual, expected in (
        ("graph", old.graph[:12], initial.graph[:12]),
        ("chunk of samples", old.chunk, initial.chunk),
        ("histograms", old.histograms, initial.histograms),
    ):
        if actual != expected:
            raise DataError(
                f"calibration state {path}: {quantity} {actual}, {expected} is needed",
                hint="delete the file to start again",
            )
    return old
