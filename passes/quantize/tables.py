"""Tables of embeddings: which are stored by row, as the weights of a layer are."""

from __future__ import annotations

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Linear, Take
from qir.passes.quantize.scales import constant

SMALL_TABLE = 1 << 16  # elements of a table that is stored in the steps of the result


def is_tied(graph: Graph, table: Value) -> bool:
    """Whether a constant is the weights of a layer and the table of a take."""
    readers = graph.users.get(table.name, ())
    kinds = [any(isinstance(r, kind) for r in readers) for kind in (Take, Linear)]
    return all(kinds) and constant(graph, table) is not None


def is_stored_by_row(graph: Graph, table: Value) -> bool:
    """Whether a float table is stored in 8 bits by row: one that is tied to a layer, or large."""
    rows = constant(graph, table)
    is_table = rows is not None and rows.ndim == 2 and table.type.is_float
    return is_table and (is_tied(graph, table) or table.type.size > SMALL_TABLE)
