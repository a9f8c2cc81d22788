"""The names of the files of an artifact."""

from __future__ import annotations

from collections.abc import Iterable

WEIGHTS, GOLDEN, GRAPH, PROGRAM = "weights.bin", "golden.bin", "graph.qir", "program.txt"
RUNNER, README, REPORT, BITS = "runner", "README.md", "report.json", "bits.toml"
CONSTANTS = f"{GRAPH}.npz"

ALWAYS = frozenset({WEIGHTS, GOLDEN, GRAPH, CONSTANTS, PROGRAM, RUNNER, README, REPORT, BITS})
OF_PROGRAM = (
    "{}.h", "{}.c", "{}_border.c", "{}_pool.c", "{}_test.c", "{}_weights.S", "{}.o", "lib{}.a",
    "lib{}.so",
)  # fmt: skip
"""With the program's name in the braces."""


def graph_file(entry: str) -> str:
    """The integer graph of an entry, or of a program without entries."""
    return f"entry_{entry}.qir" if entry else GRAPH


def files_of(program: str, entries: Iterable[str] = ()) -> frozenset[str]:
    """Every name that a file of this program's artifact can have, the manifest's apart."""
    names = {form.format(program) for form in OF_PROGRAM}
    return ALWAYS | names | {graph_file(entry) for entry in entries}
