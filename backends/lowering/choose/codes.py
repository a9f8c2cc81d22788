"""Kernels that make codes of rows: of what an op gives, or of stored elements."""

from __future__ import annotations

from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.sequence import codes, norm
from qir.backends.lowering.context import Call, Context, call
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.place import Place
from qir.ir.fixed import Dyadic
from qir.ir.op import Value
from qir.ir.ops import Interpolate, Mul, NormFixed, RowScale
from qir.ir.types import Quant


def choose_codes(fusion: Fusion, context: Context) -> Call:
    """[interpolate +] norm_fixed | interpolate | mul | nothing, + row_scale + quantize_rows -> the
    codes of each block, its scale, and its elements where others read them.
    """
    coded, op = fusion.coded, fusion.anchor
    assert coded is not None and isinstance(op, RowScale | NormFixed | Interpolate | Mul)
    results = {"y": coded.codes.result, "row_scale": coded.scale.result}
    if coded.keeps_elements:
        results["wide"] = op.result
    operands = dict(
        zip(("a", "b") if isinstance(op, Mul) else ("x",), _operands(fusion), strict=True)
    )
    places = {name: context.place(value) for name, value in (operands | results).items()}
    return call(_kernel(fusion, context, places), places)


def _operands(fusion: Fusion) -> tuple[Value, ...]:
    """The operands, of a curve's product that of the curve first."""
    curve, op = fusion.curve, fusion.anchor
    if curve is None:
        return op.operands
    return (curve.x, *(v for v in op.operands if v != curve.result))


def _kernel(fusion: Fusion, context: Context, places: dict[str, Place]) -> Kernel:
    views = {name: place.view for name, place in places.items()}
    out = codes.Results(views["y"], views["row_scale"], views.get("wide"))
    assert fusion.coded is not None
    block, features, op = fusion.coded.scale.block, context.features, fusion.anchor
    match op:
        case NormFixed():
            carrier = str(op.result.type.elem.carrier)
            return codes.norm_codes(views["x"], carrier, norm_numbers(op), out, features)
        case Interpolate():
            carrier = str(op.result.type.elem.carrier)
            return codes.curve_codes(views["x"], op.table.array, carrier, block, out, features)
        case Mul():
            table = fusion.curve.table.array if fusion.curve else None
            is_constant = context.is_constant(places["b"])
            a, b = views["a"], views["b"]
            return codes.product_codes(a, b, table, block, out, features, is_constant)
    return codes.load_codes(views["x"], block, out, features)


def numbers_of(ratio: Dyadic) -> tuple[int, int]:
    return int(ratio.mult.array), int(ratio.shift.array)


def clamp_of(to: Quant) -> tuple[int, int]:
    return to.storage.min, to.storage.max


def norm_numbers(op: NormFixed) -> norm.NormNumbers:
    """Its numbers as kernels take them."""
    return norm.NormNumbers(
        op.mult.array,
        None if op.offset is None else op.offset.array,
        op.shift,
        op.epsilon,
        op.fraction,
        None if op.mean is None else numbers_of(op.mean),
        clamp_of(op.to),
        op.x.type.quant.storage.bits,
    )
