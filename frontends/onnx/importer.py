"""From a model to an imported graph: its names, its nodes in order, and one list of all faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto

from qir.frontends.onnx.constants import constant
from qir.frontends.onnx.fold import FOLDED, fold
from qir.frontends.onnx.inputs import input_types
from qir.frontends.onnx.load import DEFAULT_DOMAINS, Model, load
from qir.frontends.onnx.names import sanitized
from qir.frontends.onnx.operands import Known, Operand
from qir.frontends.onnx.order import ordered, reads_of, shown
from qir.frontends.onnx.pool import Pool
from qir.frontends.onnx.site import Site
from qir.frontends.onnx.table import hint_for, lookup
from qir.ir.errors import FrontendError, QirError, listed
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.verify import verify

# What damaged attributes, sizes and texts make Python and NumPy raise: faults of the node.
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
Scope = dict[str, Operand | None]  # None: a result of a node that was refused


def import_onnx(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The model as a graph at stage "imported", inputs and outputs in the model's own layout.

    A free first dimension is fixed to `batch` (1 by default); `shapes` gives whole shapes of inputs
    by name. All floats become f32.
    Errors: FrontendError for a model that is damaged, or that holds nodes qir has no op for; all of
            them in one error: op, name in the model, reason, and the nearest supported form.
    """
    loaded = load(model)
    try:
        return _Importer(loaded).run(batch, shapes)
    except FrontendError:
        raise
    except QirError as e:
        raise FrontendError(f"{loaded.file}: {e.text}", e.hint) from e
    except DAMAGE as e:
        raise FrontendError(
            f"{loaded.file}: damaged ({type(e).__name__}: {e}), a valid ONNX model is needed"
        ) from e


class _Importer:
    """The state of one import: the pool that collects the graph, and the faults so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        stem = Path(model.file).stem if model.folder is not None else model.proto.graph.name
        self.pool = Pool(model.file, Builder(sanitized(stem or "model"), "imported"))
        self.faults: list[str] = []
        self.read: set[str] = set()  # every name that a node or an output reads

    def run(self, batch: int | None, shapes: Mapping[str, Sequence[int]] | None) -> Graph:
        proto = self.model.proto.graph
        scope = self.constants(proto, {})
        infos = [i for i in proto.input if i.name not in scope]
        types = input_types(infos, batch, shapes, self.model.file)
        if len(types) != len(infos):
            raise FrontendError(
                f"{self.model.file}: two inputs of one name, distinct ones are needed"
            )
        for name, type_ in types.items():
            scope[name] = self.pool.builder.input(sanitized(name), type_)
        self.nodes(proto, scope)
        outputs = [self.output(o.name, scope) for o in proto.output]
        if self.faults:
            head = f"{self.model.file}: {len(self.faults)} nodes cannot be imported"
            raise FrontendError(listed(head, self.faults, shown=len(self.faults)))
        graph = self.pool.builder.finish(
            [o for o in outputs if o is not None], [o.name for o in proto.output]
        ).without_dead_code()
        verify(graph)
        return graph

    def constants(self, proto: Any, outer: Scope) -> Scope:
        """A new scope inside `outer` with the initializers of `proto`."""
        scope = dict(outer)
        own: set[str] = set()
        for tensor in proto.initializer:
            if tensor.name in own:
                raise FrontendError(
                    f"{self.model.file} initializer {tensor.name!r}: defined twice, once is needed"
                )
            own.add(tensor.name)
            scope[tensor.name] = Known(self.model.array(tensor), tensor.name)
        return scope

    def nodes(self, proto: Any, scope: Scope) -> None:
        in_order = ordered(proto.node, scope, self.model.file)
        self.read.update(*(reads_of(n) for n in in_order), (o.name for o in proto.output))
        for node in in_order:
            results = [*self.node(node, scope), *[None] * len(node.output)]
            scope.update((n, r) for n, r in zip(node.output, results, strict=False) if n)

    def node(self, node: NodeProto, scope: Scope) -> Sequence[Operand | None]:
        """The results of one node; a refusal is kept, and gives unknown results."""
        operands = [scope[name] if name else None for name in node.input]
        unknown = any(name and o is None for name, o in zip(node.input, operands, strict=True))
        try:
            return self._results(node, operands, unknown)
        except QirError as e:
            hint = f" (hint: {e.hint})" if e.hint else ""
            self.faults.append(f"{shown(node)}: {e.text}{hint}")
        except DAMAGE as e:
            self.faults.append(f"{shown(node)}: {type(e).__name__}: {e}, a valid node is needed")
        return [None] * len(node.output)

    def _results(
        self, node: NodeProto, operands: Sequence[Operand | None], unknown: bool
    ) -> Sequence[Operand | None]:
        domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
        opset = self.model.opsets.get(domain, 1)
        if node.op_type == "Constant" and not domain:
            return [constant(node, self.model)]
        arrays = [o.array if isinstance(o, Known) and o.quant is None else None for o in operands]
        all_known = all(a is not None or o is None for a, o in zip(arrays, operands, strict=True))
        if not unknown and all_known and not domain and node.op_type in FOLDED:
            folded = fold(node, arrays, opset)
            return [Known(a, name) for a, name in zip(folded, node.output, strict=True)]
        convert = lookup(domain, node.op_type)
        if convert is None and not (unknown and not domain and node.op_type in FOLDED):
            raise FrontendError("no such op in qir", hint_for(domain, node.op_type))
        if convert is None or unknown:
            return [None] * len(node.output)
        found = convert(Site(node, operands, opset, self.pool))
        results = found if isinstance(found, tuple) else (found,)
        for at, name in enumerate(node.output):
            if at >= len(results) and name in self.read:
                raise FrontendError(
                    f"output {at} ({name!r}) is used, only the first {len(results)} can be"
                )
        return results

    def output(self, name: str, scope: Scope) -> Value | None:
        if name not in scope:
            raise FrontendError(
                f"{self.model.file} output {name!r}: defined nowhere, a definition is needed"
            )
        found = scope[name]
        return self.pool.constant(found) if isinstance(found, Known) else found
