"""A module or exported program as one graph of ATen operators with its constants."""

from __future__ import annotations

import contextlib
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from qir.frontends.torch.examples import (
    Examples,
    arguments,
    check_tensors,
    checked_examples,
    element_of,
    leaves,
    of_module_type,
    tensors,
)
from qir.frontends.torch.table import RULES, is_known
from qir.ir.errors import FrontendError
from qir.ir.types import Tensor

Shape = tuple[int, ...]
CONSTANT = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


@dataclass(frozen=True)
class TorchGraph:
    """A torch graph with its inputs and constants."""

    name: str
    nodes: tuple[Node, ...]
    inputs: Mapping[str, Tensor]  # placeholder -> type
    constants: Mapping[
        str, tuple[str, torch.Tensor]
    ]  # placeholder or attribute -> name in the model, tensor
    outputs: tuple[Node, ...]
    output_names: tuple[str, ...]


def to_program(model: Any, example_inputs: Any) -> TorchGraph:
    """`model` as a program of functional ATen operators, as whole as the table knows them.

    Errors: FrontendError for a model of another kind, inputs that do not fit, and all that
            torch.export refuses.
    """
    examples = checked_examples(example_inputs)
    if isinstance(model, (str, Path)):
        model = load_exported(Path(model))
    if isinstance(model, ExportedProgram):
        return of_exported(model, leaves(examples))
    if isinstance(model, GraphModule) and is_functional(model.graph):
        return of_graph_module(model, leaves(examples))
    if not isinstance(model, torch.nn.Module):
        raise FrontendError(
            f"import_torch: model is {type(model).__name__}, "
            "nn.Module, ExportedProgram or torch.fx.GraphModule is needed"
        )
    if examples is None:
        raise FrontendError(
            f"import_torch {type(model).__name__}: no example inputs, "
            "one tensor for each input is needed",
            hint="import_torch(model, (torch.zeros(1, 3, 224, 224),))",
        )
    examples = of_module_type(model, examples)
    return of_exported(exported(model, examples), leaves(examples), type(model).__name__)


def load_exported(path: Path) -> ExportedProgram:
    """The exported program of a .pt2 file. Errors: FrontendError."""
    try:
        return torch.export.load(path)
    except Exception as e:  # torch's reader raises every kind there is
        raise FrontendError(
            f"{path}: {type(e).__name__} {first_line(e)}, a program that torch.export.save wrote"
            " is needed"
        ) from e


def exported(model: torch.nn.Module, examples: Examples) -> ExportedProgram:
    """torch.export of the module in inference mode; its training flags are restored."""
    check_tensors(dict(tensors(model)), may_be_complex=True)
    with in_inference(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(model, *arguments(model, examples))
        except Exception as e:  # torch.export and the module's own code raise every kind there is
            raise FrontendError(
                f"torch.export {type(model).__name__}: {type(e).__name__} {first_line(e)}, "
                "a module that it traces with these inputs is needed",
                hint="torch.export.export(model, inputs) shows the whole reason; usual ones are "
                "branches on values of tensors, and inputs of another shape or number",
            ) from e


@contextlib.contextmanager
def in_inference(model: torch.nn.Module) -> Iterator[None]:
    """Every submodule in inference mode, and after it in the mode it was."""
    before = [(module, module.training) for module in model.modules()]
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def of_exported(
    program: ExportedProgram, examples: tuple[torch.Tensor, ...] | None, name: str | None = None
) -> TorchGraph:
    """The program, made functional; operators without a rule are decomposed to core ATen."""
    core = decomposed(program)
    check_stateless(core, name or "program")
    signature = core.graph_signature
    nodes = tuple(core.graph.nodes)
    placeholders = {n.name: n for n in nodes if n.op == "placeholder"}
    constants, inputs = {}, []
    for spec in signature.input_specs:
        if spec.kind in CONSTANT:
            tensor = core.state_dict.get(spec.target, core.constants.get(spec.target))
            if placeholders[spec.arg.name].users:
                constants[spec.arg.name] = (str(spec.target), tensor)
        elif spec.kind is InputKind.USER_INPUT and not isinstance(spec.arg, ConstantArgument):
            inputs.append(placeholders[spec.arg.name])
    check_tensors(dict(constants.values()), may_be_complex=True)
    if examples is None and core.example_inputs is not None:
        arguments, keywords = core.example_inputs
        held_now = pytree.tree_leaves((arguments, keywords))
        examples = tuple(t for t in held_now if isinstance(t, torch.Tensor))
    results = [s.arg for s in signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    by_name = {n.name: n for n in nodes}
    outputs = [by_name.get(getattr(a, "name", ""), a) for a in results]
    names = output_names(core.call_spec.out_spec)
    return TorchGraph(
        name or module_name(nodes),
        nodes,
        input_types(inputs, examples),
        constants,
        *checked_outputs(outputs, names),
    )


def check_stateless(program: ExportedProgram, name: str) -> None:
    """The program changes no buffer and no input."""
    kinds = (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)
    names = [str(s.target) for s in program.graph_signature.output_specs if s.kind in kinds]
    if names:
        raise FrontendError(
            f"torch.export {name}: it changes {', '.join(names)}, "
            "a program without state is needed",
            hint="export after model.eval(), or return the state as an output",
        )


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """Functional form, with every operator decomposed that the table does not know."""
    if is_functional(program.graph):
        return program  # torch takes half a second to look through all of its decompositions
    table = torch.export.default_decompositions()
    for op in list(table):
        if is_known(str(op)):
            del table[op]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            core: ExportedProgram = program.run_decompositions(table)
            return core
        except Exception as e:  # the decompositions are torch's own code
            raise FrontendError(
                f"torch.export decompositions: {type(e).__name__} {first_line(e)}, "
                "a program that torch can decompose is needed"
            ) from e


def of_graph_module(model: GraphModule, examples: tuple[torch.Tensor, ...] | None) -> TorchGraph:
    """A graph of functional ATen operators, as it is."""
    nodes = tuple(model.graph.nodes)
    constants = {}
    for node in nodes:
        if node.op == "get_attr":
            constants[node.name] = (str(node.target), operator.attrgetter(str(node.target))(model))
    check_tensors(dict(constants.values()), may_be_complex=True)
    outputs, spec = pytree.tree_flatten(nodes[-1].args[0])
    return TorchGraph(
        type(model).__name__,
        nodes,
        input_types([n for n in nodes if n.op == "placeholder"], examples),
        constants,
        *checked_outputs(outputs, output_names(spec)),
    )


def is_functional(graph: Graph) -> bool:
    """Whether the graph is of operators with a rule alone, none of which writes to an operand."""
    return all(
        node.op in ("placeholder", "get_attr", "output")
        or (
            node.op == "call_function"
            and (
                node.target is operator.getitem
                or (str(node.target) in RULES and not node.target._schema.is_mutable)
            )
        )
        for node in graph.nodes
    )


# -- inputs and outputs


def input_types(nodes: Sequence[Node], examples: Sequence[Any] | None) -> dict[str, Tensor]:
    """The type of each input: the example's shape must fit the sizes that the program fixed."""
    if examples is not None and len(examples) != len(nodes):
        raise FrontendError(
            f"import_torch: {len(examples)} example inputs, {len(nodes)} are needed"
        )
    types = {}
    for k, node in enumerate(nodes):
        tensor = node.meta.get("val", None if examples is None else examples[k])
        if not isinstance(tensor, torch.Tensor):
            kind = "no known shape" if tensor is None else type(tensor).__name__
            raise FrontendError(f"input {node.name}: {kind}, a tensor as example input is needed")
        shape = fixed_shape(node.name, tensor, None if examples is None else examples[k])
        types[node.name] = Tensor(shape, element_of(f"input {node.name}", tensor))
    return types


def fixed_shape(name: str, tensor: torch.Tensor, example: torch.Tensor | None) -> Shape:
    """The declared shape, free sizes fixed to the example's."""
    free = [not isinstance(s, int) for s in tensor.shape]
    if example is None:
        if any(free):
            raise FrontendError(
                f"input {name}: dimension {free.index(True)} is free, "
                "an example input is needed to fix it"
            )
        return tuple(int(s) for s in tensor.shape)
    shape = tuple(int(s) for s in example.shape)
    sizes = [None if f else int(s) for f, s in zip(free, tensor.shape, strict=True)]
    fits = len(shape) == len(sizes) and all(
        n in (None, s) for s, n in zip(shape, sizes, strict=True)
    )
    if not fits:
        sizes_text = ", ".join("any" if n is None else str(n) for n in sizes)
        raise FrontendError(
            f"input {name}: example has shape {list(shape)}, [{sizes_text}] is needed"
        )
    return shape


def checked_outputs(
    outputs: Sequence[Any], names: Sequence[str]
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """The outputs that are tensors and their names; None is left out."""
    pairs = [
        (node, name)
        for node, name in zip(outputs, names, strict=True)
        if getattr(node, "value", node) is not None
    ]
    for k, (node, _) in enumerate(pairs):
        if not isinstance(node, Node):
            raise FrontendError(f"output {k}: {getattr(node, 'value', node)!r}, a tensor is needed")
    if not pairs:
        raise FrontendError("outputs: None alone, a tensor is needed")
    return tuple(node for node, _ in pairs), tuple(name for _, name in pairs)


def output_names(spec: Any) -> tuple[str, ...]:
    """ "output" for one tensor, output_0, output_1 for a tuple, the keys of a dictionary."""
    numbers = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    names = []
    for path, _ in pytree.tree_flatten_with_path(numbers)[0]:
        parts = [str(getattr(p, "idx", getattr(p, "key", getattr(p, "name", p)))) for p in path]
        label = "_".join(parts)
        names.append(label if label[:1].isalpha() else f"output_{label}" if label else "output")
    return ("output",) if names == ["output_0"] else tuple(names)


def module_name(nodes: Sequence[Node]) -> str:
    """The class of the exported module, from the first node that records it."""
    for node in nodes:
        for _, kind in (node.meta.get("nn_module_stack") or {}).values():
            class_name = kind if isinstance(kind, str) else kind.__name__
            return str(class_name).rsplit(".", 1)[-1]
    return "program"


def first_line(e: Exception) -> str:
    """The first line of a foreign error, without the rest that torch adds."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else "(no reason given)"
