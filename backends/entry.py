"""The C around the kernels: a header, the entry that calls them in order, and their self-test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from qir.backends.memory import ALIGNMENT
from qir.backends.kernels import SLACK
from qir.backends.program import INPUT, OUTPUT, WEIGHTS, Address, Program, Step, size_bytes
from qir.ir.errors import LowerError
from qir.ir.op import Value
from qir.ir.target import Target
from qir.ir.types import Quant

TEMPLATES = Path(__file__).parent / "c"
CHUNK_WORK = 200_000
"""Multiply-adds, or bytes moved: less than this is not worth another thread (about 2 us)."""


def identifier(name: str) -> str:
    """`name` as a C identifier."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not plain.strip("_"):
        raise LowerError(f"artifact name {name!r}: no letter or digit in it, one is needed")
    return plain if not plain[0].isdigit() else f"_{plain}"


def fill(template: str, **holes: object) -> str:
    """The file backends/c/`template` with each @KEY@ replaced."""
    text = (TEMPLATES / template).read_text()
    for key, value in holes.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def exports(program: Program, target: Target) -> list[str]:
    """The functions that a shared library shows."""
    names = ["run", "profile", "run_float"]
    names += [f"quantize_{i}" for i, v in enumerate(program.inputs) if isinstance(v.type.elem, Quant)]
    names += [f"dequantize_{i}" for i, v in enumerate(program.outputs) if isinstance(v.type.elem, Quant)]
    names += ["pool_start", "pool_stop"] if target.is_hosted else []
    return [f"{program.name}_{name}" for name in names]


def about(value: Value) -> str:
    """A value as a comment: its storage, shape, and the reals it stands for."""
    shape = "x".join(map(str, value.type.shape)) or "scalar"
    elem = value.type.elem
    if not isinstance(elem, Quant):
        return f"{elem.carrier}[{shape}]"
    if not elem.is_per_tensor:
        return f"{elem.carrier}[{shape}], quantized along axis {elem.axis}"
    scale, zero = float(elem.scale.array), int(elem.zero_point.array)
    return f"{elem.carrier}[{shape}], real = {scale!r} * (stored - {zero})"


HEADER = """\
/* {name}: an integer-only program for {target}, made by qir {version}. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_INPUTS {inputs}
#define {upper}_OUTPUTS {outputs}
#define {upper}_STEPS {steps}
#define {upper}_ALIGNMENT {alignment}            /* bytes, of workspace and weights */
#define {upper}_INPUT_SLACK {slack}         /* bytes after each input that may be read; they may hold anything */
#define {upper}_WORKSPACE_BYTES {workspace}
#define {upper}_WEIGHTS_BYTES {weights}
#define {upper}_STORED_BYTES {stored}      /* scratch of {name}_run_float: stored inputs and outputs */

#ifndef QIR_THREADS
#define QIR_THREADS
typedef void (*qir_task)(const void *context, int32_t begin, int32_t end);

/* Does task(context, b, e) for pieces [b, e) that make up [0, units), on any threads, and returns when all are done.
 * Pieces under `grain` units are not worth a thread. */
struct qir_threads {{
    void (*run)(void *pool, qir_task task, const void *context, int32_t units, int32_t grain);
    void *pool;
}};
#endif

/* Stored integers in, stored integers out. Allocates nothing; several threads may call it, each with its own workspace.
{values}
 * Gives 0; 1 when a pointer is null; 2 when workspace or weights are not aligned.
 * threads may be null. */
int {name}_run(const void *const inputs[], void *const outputs[], void *workspace, const void *weights,
    const struct qir_threads *threads);

/* The same, and the nanoseconds that each step took. */
int {name}_profile(const void *const inputs[], void *const outputs[], void *workspace, const void *weights,
    const struct qir_threads *threads, uint64_t nanoseconds[{upper}_STEPS]);

/* The border: floats in, floats out. `stored` is scratch of {upper}_STORED_BYTES, aligned like the workspace. */
int {name}_run_float(const void *const inputs[], void *const outputs[], void *stored, void *workspace,
    const void *weights, const struct qir_threads *threads);
{border}{pool}
#ifdef __cplusplus
}}
#endif

#endif
"""

POOL = """
/* `count` threads, the caller's included; null when they cannot be had. */
const struct qir_threads *{name}_pool_start(int count);
void {name}_pool_stop(const struct qir_threads *threads);
"""


def header(program: Program, target: Target, version: str, border: str, stored_bytes: int) -> str:
    """NAME.h."""
    values = [f" * input {i}: {about(v)}" for i, v in enumerate(program.inputs)]
    values += [f" * output {i}: {about(v)}" for i, v in enumerate(program.outputs)]
    return HEADER.format(
        name=program.name,
        upper=program.name.upper(),
        target=target.name,
        version=version,
        inputs=len(program.inputs),
        outputs=len(program.outputs),
        steps=len(program.steps),
        alignment=ALIGNMENT,
        slack=SLACK,
        workspace=program.workspace_bytes,
        weights=len(program.weights),
        stored=stored_bytes,
        values="\n".join(values),
        border=border,
        pool=POOL.format(name=program.name) if target.is_hosted else "",
    )


ENTRY = """\
/* {name}: the kernels in order. */
#define _POSIX_C_SOURCE 199309L
#include "{name}.h"

#include <stddef.h>
{clock}
struct call {{
    const void *const *inputs;
    void *const *outputs;
    unsigned char *workspace;
    const unsigned char *weights;
}};

{prototypes}

{steps}

struct step {{
    qir_task run;
    int32_t units, grain;
}};

static const struct step steps[{upper}_STEPS] = {{
{table}
}};

static int prepare(struct call *c, const void *const inputs[], void *const outputs[], void *workspace,
    const void *weights) {{
    if (!inputs || !outputs || !workspace || !weights) return 1;
    for (int i = 0; i < {upper}_INPUTS; i++) {{
        if (!inputs[i]) return 1;
    }}
    for (int i = 0; i < {upper}_OUTPUTS; i++) {{
        if (!outputs[i]) return 1;
    }}
    if ((uintptr_t)workspace % {upper}_ALIGNMENT || (uintptr_t)weights % {upper}_ALIGNMENT) return 2;
    c->inputs = inputs, c->outputs = outputs, c->workspace = workspace, c->weights = weights;
    return 0;
}}

static void do_step(const struct step *s, const struct call *c, const struct qir_threads *threads) {{
    if (threads && s->units > s->grain) {{
        threads->run(threads->pool, s->run, c, s->units, s->grain);
    }} else {{
        s->run(c, 0, s->units);
    }}
}}

int {name}_run(const void *const inputs[], void *const outputs[], void *workspace, const void *weights,
    const struct qir_threads *threads) {{
    struct call c;
    const int fault = prepare(&c, inputs, outputs, workspace, weights);
    if (fault) return fault;
    for (int i = 0; i < {upper}_STEPS; i++) do_step(&steps[i], &c, threads);
    return 0;
}}
{profile}"""

CLOCK = """#include <time.h>

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
"""

PROFILE = """
int {name}_profile(const void *const inputs[], void *const outputs[], void *workspace, const void *weights,
    const struct qir_threads *threads, uint64_t nanoseconds[{upper}_STEPS]) {{
    struct call c;
    const int fault = prepare(&c, inputs, outputs, workspace, weights);
    if (fault) return fault;
    for (int i = 0; i < {upper}_STEPS; i++) {{
        const uint64_t begin = now();
        do_step(&steps[i], &c, threads);
        nanoseconds[i] = now() - begin;
    }}
    return 0;
}}
"""


def symbol(program: Program, step: str) -> str:
    """The linker's name of a kernel: no two programs share one."""
    return f"qir_{program.name}_{step}"


def entry(program: Program, target: Target) -> str:
    """NAME.c: NAME_run and, on a hosted machine, NAME_profile."""
    prototypes = {s.symbol: _prototype(program, s) for s in program.steps}
    profile = PROFILE if target.is_hosted else ""
    names = {"name": program.name, "upper": program.name.upper()}
    return ENTRY.format(
        **names,
        clock=CLOCK if target.is_hosted else "",
        prototypes="\n".join(prototypes.values()),
        steps="\n\n".join(_step(program, i, s) for i, s in enumerate(program.steps)),
        table="\n".join(f"    {{step_{i}, {s.units}, {grain(s)}}}," for i, s in enumerate(program.steps)),
        profile=profile.format(**names),
    )


def grain(step: Step) -> int:
    """The fewest units that are worth a thread."""
    work = max(step.macs // 32, step.bytes_moved, 1)
    return max(1, min(step.units, -(-CHUNK_WORK // 16 * step.units // work)))


def _prototype(program: Program, step: Step) -> str:
    pointers = ["void *" if a.name == "y" else "const void *" for a in step.arguments]
    return f"void {symbol(program, step.symbol)}({', '.join(pointers)}, int32_t, int32_t);"


def _step(program: Program, number: int, step: Step) -> str:
    arguments = ",\n        ".join(_pointer(a.address) + f" /* {a.name}: {a.about} */" for a in step.arguments)
    comment = step.title.replace("*/", "* /").replace("\n", " ")
    source = f" ({step.loc.source})".replace("*/", "* /") if step.loc.source else ""
    return (
        f"/* {number}: {comment}{source} */\n"
        f"static void step_{number}(const void *context, int32_t begin, int32_t end) {{\n"
        f"    const struct call *c = context;\n"
        f"    {symbol(program, step.symbol)}(\n        {arguments},\n        begin, end);\n}}"
    )


def _pointer(address: Address) -> str:
    match address.space:
        case space if space == INPUT:
            base = f"(const unsigned char *)c->inputs[{address.index}]"
        case space if space == OUTPUT:
            base = f"(unsigned char *)c->outputs[{address.index}]"
        case space if space == WEIGHTS:
            base = "c->weights"
        case _:
            base = "c->workspace"
    return f"{base} + {address.offset}"


def selftest(program: Program, cases: int) -> str:
    """NAME_test.c: runs the golden inputs and compares the outputs."""
    return fill(
        "selftest.c",
        NAME_UPPER=program.name.upper(),
        NAME=program.name,
        INPUT_BYTES=", ".join(_sizes(program.inputs)),
        OUTPUT_BYTES=", ".join(_sizes(program.outputs)),
        CASES=cases,
    )


def _sizes(values: tuple[Value, ...]) -> Iterator[str]:
    return (str(size_bytes(v)) for v in values)


def pool(program: Program) -> str:
    """NAME_pool.c: threads for hosted programs."""
    return fill("pool.c", NAME=program.name)
