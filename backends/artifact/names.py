"""The names of an artifact's files, beside those that start with the program's own."""

from __future__ import annotations

WEIGHTS, GOLDEN, GRAPH, PROGRAM = "weights.bin", "golden.bin", "graph.qir", "program.txt"
RUNNER, README = "runner", "README.md"


def graph_file(entry: str) -> str:
    """The integer graph of an entry."""
    return f"{entry}.qir" if entry else GRAPH
