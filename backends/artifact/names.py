"""The names of the files of an artifact."""

from __future__ import annotations

WEIGHTS, GOLDEN, GRAPH, PROGRAM = "weights.bin", "golden.bin", "graph.qir", "program.txt"
RUNNER, README, REPORT, BITS = "runner", "README.md", "report.json", "bits.toml"
CONSTANTS = f"{GRAPH}.npz"

ALWAYS = frozenset({WEIGHTS, GOLDEN, GRAPH, CONSTANTS, PROGRAM, RUNNER, README, REPORT, BITS})
OF_PROGRAM = (
    "{}.h", "{}.c", "{}_border.c", "{}_pool.c", "{}_test.c", "{}_weights.S", "{}.o", "lib{}.a",
    "lib{}.so",
)  # fmt: skip
"""With the program's name in the braces."""


def files_of(program: str) -> frozenset[str]:
    """Every name that a file of this program's artifact can have, the manifest's apart."""
    return ALWAYS | {form.format(program) for form in OF_PROGRAM}
