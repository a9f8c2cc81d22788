"""The types of a model's inputs, with free dimensions fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from onnx import TensorProto

from qir.frontends.onnx.read.budget import MAX_ELEMENTS
from qir.frontends.onnx.read.fold import MAX_RANK
from qir.frontends.onnx.read.load import type_name
from qir.ir.errors import SHOWN, FrontendError, listed
from qir.ir.types import F32, I2, I4, I8, I16, I32, I64, U1, U2, U4, U8, U16, Elem, Tensor

MAX_INPUTS = 4096
REALS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
INTEGERS = {
    TensorProto.UINT8: U8, TensorProto.INT8: I8, TensorProto.UINT16: U16, TensorProto.INT16: I16,
    TensorProto.INT32: I32, TensorProto.INT64: I64, TensorProto.BOOL: U1,
    TensorProto.UINT4: U4, TensorProto.INT4: I4,
    getattr(TensorProto, "UINT2", -1): U2, getattr(TensorProto, "INT2", -2): I2,  # newer onnx
}  # fmt: skip


def input_types(
    infos: Sequence[Any], batch: int | None, shapes: Mapping[str, Sequence[int]] | None, file: str
) -> dict[str, Tensor]:
    """Name -> type of each input. All faults are in one FrontendError.

    `shapes` gives whole shapes by input name. Else a free first dimension is `batch` (1 by
    default); a symbol has one size in the whole model; other free dimensions are an error.
    """
    shape_of_input = {name: tuple(int(s) for s in shape) for name, shape in (shapes or {}).items()}
    if unknown := sorted(set(shape_of_input) - {i.name for i in infos}):
        raise FrontendError(
            f"shapes: {', '.join(unknown)} given, inputs of the model are needed"
            f" ({', '.join(i.name for i in infos[:SHOWN])})"
        )
    names = [i.name for i in infos]
    if len(infos) > MAX_INPUTS:
        raise FrontendError(f"{file}: {len(infos)} inputs, at most {MAX_INPUTS} are needed")
    if repeats := sorted(n for n, times in Counter(names).items() if times > 1):
        raise FrontendError(
            f"{file}: inputs {', '.join(repeats[:SHOWN])} defined twice, once is needed"
        )
    if batch is not None and batch < 1:
        raise FrontendError(f"batch: {batch}, at least 1 is needed")
    symbols = _symbols(infos, batch, shape_of_input)
    _check_batch(infos, batch, file)
    types, faults, hints = {}, [], []
    for info in infos:
        where = f"{file} input {info.name!r}"
        try:
            shape = _shape(info, batch, shape_of_input.get(info.name), symbols, where)
            types[info.name] = Tensor(shape, _elem(info, where))
        except FrontendError as e:
            faults.append(e.text)
            hints.append(e.hint)
    if faults:
        hint = next(filter(None, hints), None)
        raise FrontendError(
            faults[0] if len(faults) == 1 else listed(f"{file}: inputs", faults), hint
        )
    return types


def _check_batch(infos: Sequence[Any], batch: int | None, file: str) -> None:
    """A batch needs an input whose first dimension is free, or already of that size."""
    firsts = [
        _fixed(i.type.tensor_type.shape.dim[0]) for i in infos if i.type.tensor_type.shape.dim
    ]
    if batch is not None and firsts and not {None, batch}.intersection(firsts):
        raise FrontendError(f"{file}: batch {batch} given, the file's own {firsts[0]} is needed")


def _elem(info: Any, where: str) -> Elem:
    if info.type.WhichOneof("value") != "tensor_type":
        raise FrontendError(
            f"{where}: a {info.type.WhichOneof('value') or 'typeless value'}, a tensor is needed"
        )
    kind = info.type.tensor_type.elem_type
    if kind in REALS:
        return F32
    if kind not in INTEGERS:
        raise FrontendError(f"{where}: elements of type {type_name(kind)}, numbers are needed")
    return INTEGERS[kind]


def _symbols(
    infos: Sequence[Any], batch: int | None, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """The size of each named dimension: by a given shape, or as the batch."""
    sizes: dict[str, int] = {}
    for info in infos:
        dims = info.type.tensor_type.shape.dim
        for at, dim in enumerate(dims):
            if not dim.dim_param:
                continue
            if info.name in shapes and len(shapes[info.name]) == len(dims):
                sizes[dim.dim_param] = shapes[info.name][at]
            elif at == 0:
                sizes.setdefault(dim.dim_param, batch or 1)
    return sizes


def _shape(
    info: Any,
    batch: int | None,
    requested: tuple[int, ...] | None,
    symbols: Mapping[str, int],
    where: str,
) -> tuple[int, ...]:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        if requested is None:
            raise FrontendError(
                f"{where}: no shape in the file, one is needed", f"shapes={{{info.name!r}: (...)}}"
            )
        return _sane(requested, where)
    dims = [_fixed(d) for d in tensor.shape.dim]
    if requested is not None:
        fits = len(requested) == len(dims) and all(
            d in (None, g) for d, g in zip(dims, requested, strict=True)
        )
        if not fits:
            raise FrontendError(
                f"{where}: shape {list(requested)} given, {_dims_text(tensor.shape.dim)} is needed"
            )
        return _sane(requested, where)
    sizes = []
    for at, (dim, size) in enumerate(zip(tensor.shape.dim, dims, strict=True)):
        if size is None:
            size = (
                symbols.get(dim.dim_param) if dim.dim_param else ((batch or 1) if at == 0 else None)
            )
        if size is None:
            raise FrontendError(
                f"{where}: dimension {at} of {_dims_text(tensor.shape.dim)} is free,"
                " a size is needed",
                f"shapes={{{info.name!r}: (...)}}",
            )
        sizes.append(size)
    return _sane(tuple(sizes), where)


def _fixed(dim: Any) -> int | None:
    """The size of a dimension; None when it is free (a symbol, nothing, or -1)."""
    if dim.WhichOneof("value") != "dim_value" or dim.dim_value == -1:
        return None
    return int(dim.dim_value)


def _sane(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    if len(shape) > MAX_RANK:
        raise FrontendError(f"{where}: {len(shape)} dimensions, at most {MAX_RANK} are needed")
    if any(s < 1 for s in shape) or prod(shape) > MAX_ELEMENTS:
        raise FrontendError(
            f"{where}: shape {list(shape)}, sizes of at least 1 and {MAX_ELEMENTS} elements at most"
            " are needed"
        )
    return shape


def _dims_text(dims: Sequence[Any]) -> str:
    fixed = [_fixed(d) for d in dims]
    names = [d.dim_param or "?" for d in dims]
    return f"[{', '.join(n if s is None else str(s) for s, n in zip(fixed, names, strict=True))}]"
