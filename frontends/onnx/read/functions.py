"""Inlines the functions that a model defines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from onnx import AttributeProto, NodeProto

from qir.frontends.onnx.read.load import DEFAULT_DOMAINS
from qir.ir.errors import FrontendError

DEEPEST = 32  # calls within calls


class FunctionLibrary:
    """The functions of a model by domain and name, and those being imported now."""

    def __init__(self, functions: Iterable[Any], file: str) -> None:
        self.file = file
        self._all = {(_domain(f.domain), f.name): f for f in functions}
        self._open: list[tuple[str, str]] = []

    def get(self, domain: str, name: str) -> Any | None:
        return self._all.get((domain, name))

    @contextmanager
    def inside(self, function: Any) -> Iterator[None]:
        """While the body of `function` is imported. Errors: FrontendError when it calls itself."""
        key = (_domain(function.domain), function.name)
        if key in self._open or len(self._open) >= DEEPEST:
            chain = " -> ".join(name for _, name in [*self._open, key])
            raise FrontendError(f"calls {chain}, functions that end are needed")
        self._open.append(key)
        try:
            yield
        finally:
            self._open.pop()

    @staticmethod
    def body(function: Any, call: NodeProto) -> list[NodeProto]:
        """The nodes of `function`, named after the call, with its attributes filled in."""
        attributes = {a.name: a for a in function.attribute_proto}
        attributes.update({a.name: a for a in call.attribute})
        place = call.name or next(filter(None, call.output), function.name)
        return [_filled(node, attributes, place) for node in function.node]


def _filled(node: NodeProto, attributes: dict[str, AttributeProto], place: str) -> NodeProto:
    """A copy of `node` in which references to the function's attributes are their values."""
    new = NodeProto()
    new.CopyFrom(node)
    new.name = f"{place}/{node.name or node.op_type}"
    del new.attribute[:]
    for attribute in node.attribute:
        value = attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if value is None:
            continue  # an optional attribute that the call leaves out
        copy = new.attribute.add()
        copy.CopyFrom(value)
        copy.name = attribute.name
        for graph in [*([copy.g] if copy.HasField("g") else []), *copy.graphs]:
            inner = [_filled(n, attributes, place) for n in graph.node]
            del graph.node[:]
            graph.node.extend(inner)
    return new


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain
