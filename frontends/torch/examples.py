"""Example inputs of a module, and the tensors that have a counterpart."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from qir.ir.data import unmasked
from qir.ir.errors import FrontendError, listed
from qir.ir.types import F32, I32, U1, Elem

BYTES = (torch.uint8, torch.int8)
ELEMENTS = {torch.int32: I32, torch.int64: I32, torch.bool: U1}  # ids of 64 bits fit 32
LONG = (np.dtype(np.longdouble), np.dtype(np.clongdouble))  # torch has none
CACHE = "use_cache"  # the argument by which modules of transformers return keys and values too

Examples = tuple[Any, ...] | dict[str, Any]  # by position, or by the names of forward's arguments


def checked_examples(examples: Any) -> Examples | None:
    """The example inputs as dense real tensors; one tensor or array is a sequence of one.

    A mapping gives them by the names of forward's arguments. Inputs may be tuples, lists and
    dictionaries of tensors. Bytes (of images) become floats.
    """
    if examples is None:
        return None
    if not isinstance(examples, (torch.Tensor, np.ndarray, Sequence, Mapping)):
        kind = type(examples).__name__
        raise FrontendError(f"example inputs: {kind}, a sequence of tensors is needed")
    is_one = isinstance(examples, (torch.Tensor, np.ndarray))
    by_name = dict(examples) if isinstance(examples, Mapping) else None
    every_one = (examples,) if is_one else tuple(examples)
    flat, spec = pytree.tree_flatten(every_one if by_name is None else by_name)
    every = [as_tensor(k, x) for k, x in enumerate(flat)]
    check_tensors({f"example input {k}": x for k, x in enumerate(every)})
    for k, x in enumerate(every):
        if x.dtype in BYTES:
            every[k] = x.float()
        else:
            element_of(f"example input {k}", x)
    restored: Examples = pytree.tree_unflatten(every, spec)
    return restored


def element_of(where: str, x: torch.Tensor) -> Elem:
    """f32 of reals, i32 of indices (int32, int64), u1 of masks. Errors: FrontendError."""
    if x.dtype.is_floating_point and x.dtype.itemsize > 1:
        return F32
    if x.dtype in ELEMENTS:
        return ELEMENTS[x.dtype]
    raise FrontendError(
        f"{where}: {x.dtype}, a float type, int32, int64 or bool is needed",
        hint="x.float(); integers enter a program by quantization, or as indices",
    )


def as_tensor(k: int, x: Any) -> torch.Tensor:
    """A tensor as it is, a NumPy array of numbers as a tensor."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "biufc" and x.dtype not in LONG:
        a = unmasked(x, f"example input {k}")
        return torch.from_numpy(np.array(a, a.dtype.newbyteorder("=")))
    if not isinstance(x, torch.Tensor):
        kind = f"array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise FrontendError(f"example input {k}: {kind}, a torch.Tensor is needed")
    return x


def check_tensors(tensors: Mapping[str, Any], may_be_complex: bool = False) -> None:
    """Every tensor is dense, real and on a device."""
    faults = [
        f"{name}: {fault}"
        for name, t in tensors.items()
        if (fault := tensor_fault(t, may_be_complex))
    ]
    if faults:
        raise FrontendError(listed("torch model: tensors that have no counterpart", faults))


def tensor_fault(t: Any, may_be_complex: bool) -> str | None:
    if not isinstance(t, torch.Tensor):
        return f"{type(t).__name__}, a tensor is needed"
    if t.is_complex() and not may_be_complex:
        return f"complex ({t.dtype}), real numbers are needed"
    if t.layout != torch.strided:
        return f"sparse ({t.layout}), a dense tensor is needed (tensor.to_dense())"
    if t.is_quantized:
        return (
            f"a quantized tensor ({t.dtype}), quantized_decomposed operators on floats are needed"
        )
    if t.is_meta:
        return "on the meta device, a tensor with data is needed"
    return None


def of_module_type(model: torch.nn.Module, examples: Examples) -> Examples:
    """Real examples of the type of the module's parameters; float32 where it has none."""
    kinds = (t.dtype for _, t in tensors(model) if isinstance(t, torch.Tensor))
    kind = next((k for k in kinds if k.is_floating_point), torch.float32)
    cast: Examples = pytree.tree_map(lambda x: x.to(kind) if x.is_floating_point() else x, examples)
    return cast


def leaves(examples: Examples | None) -> tuple[torch.Tensor, ...] | None:
    """The tensors of nested examples, in torch's order; None for those by name, whose order the
    exported program says.
    """
    return tuple(pytree.tree_leaves(examples)) if isinstance(examples, tuple) else None


def arguments(model: torch.nn.Module, examples: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The examples by position and by name; no cache is asked of a module that would return one."""
    by_position = examples if isinstance(examples, tuple) else ()
    by_name = {} if isinstance(examples, tuple) else dict(examples)
    parameters = list(inspect.signature(model.forward).parameters)
    if CACHE in parameters[len(by_position) :]:
        by_name.setdefault(CACHE, False)
    return by_position, by_name


def tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters and buffers, with their names."""
    yield from model.named_parameters()
    yield from model.named_buffers()
