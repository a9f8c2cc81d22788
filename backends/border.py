"""The float border of a program in C: reals to stored integers and back; the only floats in an artifact.

    stored = clamp(round(f32(x) / f32(scale)) + zero_point), ties to even
    real   = f32(stored - zero_point) * f32(scale)

in float32 with IEEE division, bit for bit what qir.ir.ops.quantize says. A NaN becomes the least stored value.
"""

from __future__ import annotations

from math import prod

import numpy as np

from qir.backends.memory import aligned
from qir.backends.kernels import SLACK
from qir.backends.program import Program, size_bytes
from qir.ir.errors import LowerError
from qir.ir.op import Value
from qir.ir.types import Quant

TYPES = {"uint8": "uint8_t", "int8": "int8_t", "uint16": "uint16_t", "int16": "int16_t", "int32": "int32_t"}

SOURCE = """\
/* {name}: the border between reals and stored integers. Needs IEEE floats, and no -ffast-math. */
#include "{name}.h"

/* Added and taken away again, these round to an integer, ties to even; for |v| < 2**22 and 2**51. */
#define ROUND 12582912.0f
#define ROUND_WIDE 6755399441055744.0

{tables}{functions}
int {name}_run_float(const void *const inputs[], void *const outputs[], void *stored, void *workspace,
    const void *weights, const struct qir_threads *threads) {{
    if (!inputs || !outputs || !stored) return 1;
    if ((uintptr_t)stored % {upper}_ALIGNMENT) return 2;
    for (int i = 0; i < {upper}_INPUTS; i++) {{
        if (!inputs[i]) return 1;
    }}
    for (int i = 0; i < {upper}_OUTPUTS; i++) {{
        if (!outputs[i]) return 1;
    }}
    unsigned char *s = stored;
    const void *const whole_inputs[] = {{{inputs}}};
    void *const whole_outputs[] = {{{outputs}}};
{quantize}    const int fault = {name}_run(whole_inputs, whole_outputs, workspace, weights, threads);
    if (fault) return fault;
{dequantize}    return 0;
}}
"""

QUANTIZE = """\
void {name}_quantize_{i}(const float *x, void *stored) {{
    {type} *y = stored;
    for (int64_t a = 0, i = 0; a < {outer}; a++) {{
        for (int64_t c = 0; c < {channels}; c++) {{
            const float scale = {scale};
            const int64_t zero = {zero};
            for (int64_t k = 0; k < {inner}; k++, i++) {{
{body}
            }}
        }}
    }}
}}
"""

NARROW = """\
                float v = x[i] / scale;
                v = v > (float)({low} - zero) ? v : (float)({low} - zero);
                v = v < (float)({high} - zero) ? v : (float)({high} - zero);
                y[i] = ({type})((int32_t)((v + ROUND) - ROUND) + (int32_t)zero);"""

WIDE = """\
                double v = (double)(x[i] / scale);
                v = v > -1e12 ? v : -1e12;
                v = v < 1e12 ? v : 1e12;
                v = ((v + ROUND_WIDE) - ROUND_WIDE) + (double)zero;
                v = v > {low}.0 ? v : {low}.0;
                y[i] = ({type})(v < {high}.0 ? v : {high}.0);"""

DEQUANTIZE = """\
void {name}_dequantize_{i}(const void *stored, float *y) {{
    const {type} *x = stored;
    for (int64_t a = 0, i = 0; a < {outer}; a++) {{
        for (int64_t c = 0; c < {channels}; c++) {{
            const float scale = {scale};
            const {wide} zero = {zero};
            for (int64_t k = 0; k < {inner}; k++, i++) {{
                y[i] = (float)(({wide})x[i] - zero) * scale;
            }}
        }}
    }}
}}
"""


def stored_offsets(program: Program) -> tuple[dict[str, int], int]:
    """Where each quantized input ("i0") and output ("o0") lies in the scratch of NAME_run_float, and its size."""
    offsets, at = {}, 0
    for letter, values in (("i", program.inputs), ("o", program.outputs)):
        for index, value in enumerate(values):
            if isinstance(value.type.elem, Quant):
                offsets[f"{letter}{index}"] = at
                at += aligned(size_bytes(value) + SLACK)
    return offsets, at


def prototypes(program: Program) -> str:
    """What the header says of the border's functions."""
    lines = []
    for verb, values, signature in (
        ("quantize", program.inputs, "const float *x, void *stored"),
        ("dequantize", program.outputs, "const void *stored, float *y"),
    ):
        for i, value in enumerate(values):
            if isinstance(value.type.elem, Quant):
                lines.append(f"void {program.name}_{verb}_{i}({signature});\n")
    return "".join(lines)


def source(program: Program) -> str:
    """NAME_border.c."""
    offsets, _ = stored_offsets(program)
    tables: list[str] = []
    functions, before, after, inputs, outputs = [], [], [], [], []
    for i, value in enumerate(program.inputs):
        at = offsets.get(f"i{i}")
        inputs.append(f"inputs[{i}]" if at is None else f"s + {at}")
        if at is not None:
            functions.append(_function(program.name, QUANTIZE, "quantize", i, value, tables))
            before.append(f"    {program.name}_quantize_{i}(inputs[{i}], s + {at});\n")
    for i, value in enumerate(program.outputs):
        at = offsets.get(f"o{i}")
        outputs.append(f"outputs[{i}]" if at is None else f"s + {at}")
        if at is not None:
            functions.append(_function(program.name, DEQUANTIZE, "dequantize", i, value, tables))
            after.append(f"    {program.name}_dequantize_{i}(s + {at}, outputs[{i}]);\n")
    return SOURCE.format(
        name=program.name,
        upper=program.name.upper(),
        tables="".join(tables),
        functions="\n".join(functions),
        inputs=", ".join(inputs),
        outputs=", ".join(outputs),
        quantize="".join(before),
        dequantize="".join(after),
    )


def _function(name: str, template: str, verb: str, i: int, value: Value, tables: list[str]) -> str:
    q = value.type.quant
    if q.block is not None:
        raise LowerError(f"{value}: quantized in blocks of {q.block}, one scale or one per slice is needed at the border")
    shape, axis = value.type.shape, q.axis
    outer, channels, inner = (
        (1, 1, prod(shape)) if axis is None else (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))
    )
    scale, zero = _number(q.scale.array.reshape(-1)[0]), str(int(q.zero_point.array.reshape(-1)[0]))
    if axis is not None:
        table = f"{verb}_{i}"
        scale, zero = f"{table}_scale[c]", f"{table}_zero[c]"
        scales = ", ".join(_number(s) for s in q.scale.array)
        tables.append(f"static const float {table}_scale[] = {{{scales}}};\n")
        zeros = ", ".join(str(int(z)) for z in q.zero_point.array)
        tables.append(f"static const int32_t {table}_zero[] = {{{zeros}}};\n\n")
    kept = q.storage
    fields = {
        "name": name, "i": i, "type": TYPES[str(q.carrier)], "outer": outer, "channels": channels, "inner": inner,
        "scale": scale, "zero": zero, "wide": "int64_t" if kept.bits > 16 else "int32_t",
        "low": kept.min, "high": kept.max,
    }  # fmt: skip
    body = (WIDE if kept.bits > 16 else NARROW).format(**fields)
    return template.format(**fields, body=body)


def _number(scale: object) -> str:
    """A float32 as a C constant of the same bits."""
    return f"{float(np.float32(scale)).hex()}f"  # type: ignore[arg-type]
