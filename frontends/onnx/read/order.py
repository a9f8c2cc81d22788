"""Topological order of a graph's nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, NodeProto

from qir.ir.errors import SHOWN, FrontendError, listed, printable


def ordered(nodes: Sequence[NodeProto], defined: Collection[str], where: str) -> list[NodeProto]:
    """`nodes`, in their own order when that is one.

    Errors: FrontendError for a name defined twice or never, or a cycle.
    """
    home: dict[str, int] = {}
    faults = [f"node {n.name!r}: {fault}" for n in nodes for fault in misspelt(n)]
    if faults:
        raise FrontendError(listed(f"{where}: faults in texts", faults))
    for at, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in defined or name in home:
                faults.append(f"{node_text(node)}: {name!r} is defined twice, once is needed")
            home[name] = at
    reads = [reads_of(node) for node in nodes]
    for node, names in zip(nodes, reads, strict=True):
        for name in names:
            if name not in home and name not in defined:
                faults.append(
                    f"{node_text(node)}: input {name!r} is defined nowhere, a definition is needed"
                )
    if faults:
        raise FrontendError(listed(f"{where}: faults in names", faults))
    needs = {at: {home[n] for n in names if n in home} for at, names in enumerate(reads)}
    if all(max(before, default=-1) < at for at, before in needs.items()):
        return list(nodes)
    try:
        return [nodes[at] for at in TopologicalSorter(needs).static_order()]
    except CycleError as e:
        cycle_nodes = [node_text(nodes[at]) for at in e.args[1]]
        cycle = " -> ".join(
            cycle_nodes if len(cycle_nodes) <= SHOWN else [*cycle_nodes[: SHOWN - 1], "..."]
        )
        raise FrontendError(f"{where}: nodes in a cycle ({cycle}), an order is needed") from e


def reads_of(node: NodeProto) -> set[str]:
    """The names that a node reads, those that its subgraphs take from outside included."""
    names = set(filter(None, node.input))
    for attribute in node.attribute:
        graphs = list(attribute.graphs)
        if attribute.type == AttributeProto.GRAPH:
            graphs.append(attribute.g)
        for graph in graphs:
            local_names = {t.name for t in graph.initializer} | {i.name for i in graph.input}
            local_names.update(name for inner in graph.node for name in inner.output)
            for inner in graph.node:
                names |= reads_of(inner) - local_names
            names |= {o.name for o in graph.output} - local_names
    return names - {""}


def misspelt(node: NodeProto) -> Iterator[str]:
    """Texts of a node that are no UTF-8: protobuf gives them as bytes."""
    for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
        if not isinstance(text, str):
            yield f"{text!r} is no UTF-8, text is needed"


def node_text(node: NodeProto) -> str:
    """A node in a message: its op, domain when it is not the default, and its name in the model."""
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    name = node.name or next(filter(None, node.output), "")
    return printable(f"{domain}{node.op_type} {name!r}")
