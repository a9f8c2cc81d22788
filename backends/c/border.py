"""The float border of a program in C; the only floats in an artifact.

    stored = clamp(round(f32(x) / f32(scale)) + zero_point), ties to even
    real   = f32(stored - zero_point) * f32(scale)

in float32 with IEEE division, bit for bit what qir.ir.ops.quantize says. A NaN becomes the least
stored value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from qir.backends.c.calls import TYPES, local, parameters
from qir.backends.c.template import fill
from qir.backends.kernels import SLACK
from qir.backends.lowering.memory import aligned
from qir.backends.lowering.program import LoweredProgram, size_bytes
from qir.ir.errors import LowerError
from qir.ir.op import Value
from qir.ir.types import Quant

STORED_ALIGNMENT = 128  # of what lies in the scratch: enough for every target


def quantized(values: tuple[Value, ...]) -> Iterator[tuple[int, Value]]:
    """The values with a scale, with their numbers."""
    return ((i, v) for i, v in enumerate(values) if isinstance(v.type.elem, Quant))


def functions(program: LoweredProgram) -> tuple[str, ...]:
    """The names of all functions that convert one input or output."""
    inward = [f"{program.c_name}_quantize_{i}" for i, _ in quantized(program.inputs)]
    return (*inward, *(f"{program.c_name}_dequantize_{i}" for i, _ in quantized(program.outputs)))


def prototypes(program: LoweredProgram) -> str:
    """Their prototypes in the header."""
    signatures = {
        "quantize": "const float *x, void *stored",
        "dequantize": "const void *stored, float *y",
    }
    lines = [f"void {name}({signatures[name.split('_')[-2]]});\n" for name in functions(program)]
    return "".join(lines)


def scratch(program: LoweredProgram) -> tuple[dict[str, int], int]:
    """Where each stored input ("i0") and output ("o0") lies in the scratch, and its size."""
    offsets, at = {}, 0
    for letter, values in (("i", program.inputs), ("o", program.outputs)):
        for index, value in quantized(values):
            offsets[f"{letter}{index}"] = at
            at += aligned(size_bytes(value) + SLACK, STORED_ALIGNMENT)
    return offsets, at


def source(programs: Sequence[LoweredProgram]) -> str:
    """NAME_border.c, of a program for each entry."""
    name = programs[0].name
    entries = "\n".join(map(_entry, programs))
    return fill("border/border.c", ENTRIES=entries, NAME=name)


def _entry(program: LoweredProgram) -> str:
    """The functions of one entry."""
    offsets, _ = scratch(program)
    name = program.c_name

    def pointers(letter: str, array: str, values: tuple[Value, ...]) -> str:
        places = [offsets.get(f"{letter}{i}") for i in range(len(values))]
        return ", ".join(
            f"{array}[{i}]" if at is None else f"s + {at}" for i, at in enumerate(places)
        )

    before = [
        f"    {name}_quantize_{i}(inputs[{i}], s + {offsets[f'i{i}']});\n"
        for i, _ in quantized(program.inputs)
    ]
    after = [
        f"    {name}_dequantize_{i}(s + {offsets[f'o{i}']}, outputs[{i}]);\n"
        for i, _ in quantized(program.outputs)
    ]
    functions = [_function(program, "quantize", i, v) for i, v in quantized(program.inputs)]
    functions += [_function(program, "dequantize", i, v) for i, v in quantized(program.outputs)]
    return fill(
        "border/run_float.c",
        **parameters(program),
        FUNCTIONS="\n".join(functions),
        WHOLE_INPUTS=pointers("i", "inputs", program.inputs),
        WHOLE_OUTPUTS=pointers("o", "outputs", program.outputs),
        BEFORE="".join(before),
        AFTER="".join(after),
        UPPER=program.name.upper(),
    )


def _function(program: LoweredProgram, verb: str, i: int, value: Value) -> str:
    q, shape = value.type.quant, value.type.shape
    if q.block is not None:
        raise LowerError(
            f"{value}: quantized in blocks of {q.block}, one scale or one per slice"
            " is needed at the border"
        )
    if q.axis is None:
        sizes, tables = (1, 1, prod(shape)), ""
        scale, zero = _number(q.scale.item()), str(q.zero_point.item())
    else:
        sizes = prod(shape[: q.axis]), shape[q.axis], prod(shape[q.axis + 1 :])
        table = f"{local(program)}{verb}_{i}"
        scales = ", ".join(_number(s) for s in q.scale.array)
        zeros = ", ".join(str(z) for z in q.zero_point.array)
        tables = f"static const float {table}_scale[] = {{{scales}}};\n"
        tables += f"static const int32_t {table}_zero[] = {{{zeros}}};\n\n"
        scale, zero = f"{table}_scale[c]", f"{table}_zero[c]"
    return fill(
        f"border/{verb}.c",
        TABLES=tables,
        NAME=program.c_name,
        I=i,
        TYPE=TYPES[str(q.carrier)],
        OUTER=sizes[0],
        CHANNELS=sizes[1],
        INNER=sizes[2],
        SCALE=scale,
        ZERO=zero,
        WIDE=int(q.storage.bits > 16),
        **({"LOW": q.storage.min, "HIGH": q.storage.max} if verb == "quantize" else {}),
    )


def _number(scale: float) -> str:
    """A float32 as a C constant of the same bits."""
    return f"{float(np.float32(scale)).hex()}f"
